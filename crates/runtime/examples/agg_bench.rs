//! Times COUNT(*) and MAX(v) by a BIGINT key in tumbling and session windows, in nanoseconds a row.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a program that measures time and may stop")]

use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use millstream_core::graph::*;
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::{Collector, Context, Progress};
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Field, Result, Schema, TypeKind, Watermark};
use std::sync::Arc;
use std::time::Instant;

struct Count(usize);

impl Collector for Count {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        self.0 += batch.num_rows();
        Ok(())
    }
    fn emit_watermark(&mut self, _: Watermark) -> Result<()> {
        Ok(())
    }
}

fn main() {
    let (time, number) = (TypeKind::Timestamp(3).nullable(), TypeKind::BigInt.nullable());
    let field = |name: &str, t: &millstream_core::DataType| Field::new(name, t.clone());
    let input = Schema::new(vec![field("t", &time), field("k", &number), field("v", &number)]);
    let output = Schema::new(vec![field("k", &number), field("n", &number), field("m", &number)]);
    let call = |function, args: Vec<usize>| AggregateCall {
        function,
        arg_types: vec![number.clone(); args.len()],
        args,
        distinct: false,
        filter: None,
        result: number.clone(),
    };
    let spec = |shape| {
        OperatorSpec::WindowAggregate(WindowAggregate {
            window: WindowSpec { shape, time: WindowTime::Event { column: 0 }, zone: SessionZone::UTC },
            keys: vec![1],
            session_keys: 1,
            aggregates: vec![call(AggregateFunction::Count, vec![]), call(AggregateFunction::Max, vec![2])],
            properties: vec![],
            phase: AggregatePhase::Single,
        })
    };
    for shape in [WindowShape::Tumble { size_ms: 1 << 40, offset_ms: 0 }, WindowShape::Session { gap_ms: 20_000 }] {
        println!("{shape:?}");
        run(&spec(shape), &input, &output);
    }
}

fn run(spec: &OperatorSpec, input: &Schema, output: &Schema) {
    for groups in [1_000u64, 100_000, 1_000_000] {
        let mut random = 0x2545_F491_4F6C_DD1Du64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let batches: Vec<Batch> = (0..512)
            .map(|_| {
                let keys: Vec<i64> = (0..8192).map(|_| (next() % groups) as i64).collect();
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(TimestampMillisecondArray::from((0..8192).collect::<Vec<i64>>())),
                    Arc::new(Int64Array::from(keys.clone())),
                    Arc::new(Int64Array::from(keys)),
                ];
                Batch::from_columns(input.arrow().clone(), columns, 8192).unwrap()
            })
            .collect();
        let mut operator = millstream_runtime::operators::create(
            spec,
            &Connections::insert_only(std::slice::from_ref(input), output),
            0,
            1,
            &(Arc::new(|| {}) as millstream_core::source::Waker),
        )
        .unwrap();
        let metrics = OperatorMetrics::default();
        let mut out = Count(0);
        let mut ctx = Context { out: &mut out, now_ms: 0, metrics: &metrics };
        // The first round makes the groups, the second is measured.
        batches.iter().for_each(|b| operator.process(0, b.clone(), &mut ctx).unwrap());
        let start = Instant::now();
        batches.iter().for_each(|b| operator.process(0, b.clone(), &mut ctx).unwrap());
        let update = start.elapsed().as_nanos() as f64 / (512.0 * 8192.0);
        let start = Instant::now();
        while operator.on_watermark(Watermark::MAX, &mut ctx).unwrap() == Progress::More {}
        let fire = start.elapsed().as_nanos() as f64 / out.0 as f64;
        println!("{groups:>8} groups: {update:.1} ns a row, {fire:.1} ns a result");
    }
}
