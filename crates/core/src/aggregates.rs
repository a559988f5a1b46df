//! Aggregate functions: what they are called with, and the types of their partial results.

use crate::{DataType, Field, TypeKind};

/// One aggregate of a group.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// Which.
    pub function: AggregateFunction,
    /// Its arguments: columns of the input.
    pub args: Vec<usize>,
    /// The arguments' types.
    pub arg_types: Vec<DataType>,
    /// `f(DISTINCT x)`
    pub distinct: bool,
    /// `FILTER (WHERE ...)`: a BOOLEAN column of the input.
    pub filter: Option<usize>,
    /// The result's type, as Flink derives it.
    pub result: DataType,
}

impl AggregateCall {
    /// Whether its partial result is the list of the arguments' rows, not a few numbers.
    pub fn keeps_rows(&self) -> bool {
        use AggregateFunction::*;
        self.distinct
            || matches!(
                self.function,
                ListAgg { .. }
                    | Collect
                    | ArrayAgg { .. }
                    | SingleValue
                    | JsonObjectAgg { .. }
                    | JsonArrayAgg { .. }
                    | Percentile { .. }
            )
    }

    /// The column of a partial result that is the list of the arguments' rows.
    pub fn row_state_types(&self) -> Vec<DataType> {
        use TypeKind::*;
        let field = |(i, t): (usize, &DataType)| Field::new(format!("f{i}"), t.clone().with_nullable(true));
        let fields = self.arg_types.iter().enumerate().map(field).collect();
        vec![Array(Box::new(Row(fields).nullable())).nullable()]
    }

    /// The columns of its partial result: what a `Local` phase emits and what state tables store.
    pub fn state_types(&self) -> Vec<DataType> {
        use AggregateFunction::*;
        use TypeKind::{BigInt, Decimal, Double, Float};
        let count = || BigInt.nullable();
        if self.keeps_rows() {
            return self.row_state_types();
        }
        match self.function {
            Count => vec![count()],
            Sum | Sum0 => vec![self.result.clone().with_nullable(true), count()],
            Avg => {
                let sum = match self.arg_types.first().map(|t| &t.kind) {
                    Some(Decimal(_, scale)) => Decimal(38, *scale),
                    Some(Float | Double) => Double,
                    _ => BigInt,
                };
                vec![sum.nullable(), count()]
            }
            StddevPop | StddevSamp | VarPop | VarSamp => vec![count(), Double.nullable(), Double.nullable()],
            Bitmap { .. } => vec![count(), TypeKind::Bitmap.nullable()],
            _ => self.arg_types.iter().take(1).map(|t| t.clone().with_nullable(true)).collect(),
        }
    }
}

/// Flink's aggregate functions.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateFunction {
    /// `COUNT(*)` (no argument) or `COUNT(x)`
    Count,
    /// `SUM`: keeps integer types, wraps on overflow.
    Sum,
    /// `SUM0`: as `SUM`, 0 for no rows.
    Sum0,
    /// `AVG`: of integers truncates to the argument's type.
    Avg,
    /// `MIN`
    Min,
    /// `MAX`
    Max,
    /// `FIRST_VALUE`: ignores NULLs.
    FirstValue,
    /// `LAST_VALUE`: ignores NULLs.
    LastValue,
    /// `STDDEV_POP`
    StddevPop,
    /// `STDDEV_SAMP`, `STDDEV`
    StddevSamp,
    /// `VAR_POP`
    VarPop,
    /// `VAR_SAMP`, `VARIANCE`
    VarSamp,
    /// `LISTAGG`, with its separator.
    ListAgg {
        /// Between two values.
        separator: String,
    },
    /// `COLLECT`: a MULTISET.
    Collect,
    /// `ARRAY_AGG`: keeps NULLs unless told otherwise.
    ArrayAgg {
        /// `IGNORE NULLS`
        ignore_nulls: bool,
    },
    /// `SINGLE_VALUE`: fails on a second row.
    SingleValue,
    /// `JSON_OBJECTAGG`: keys and values; sorted by key.
    JsonObjectAgg {
        /// `ABSENT ON NULL`
        absent_on_null: bool,
        /// Whether the values are JSON already.
        is_json: bool,
    },
    /// `JSON_ARRAYAGG`
    JsonArrayAgg {
        /// `ABSENT ON NULL` (Flink's default).
        absent_on_null: bool,
        /// Whether the values are JSON already.
        is_json: bool,
    },
    /// `PERCENTILE` of a DOUBLE, and how often each counts (a BIGINT) if there is a second argument; exact, between
    /// two values interpolated. One value, or an ARRAY if the result's type is one.
    Percentile {
        /// From 0 to 1.
        percentages: Vec<f64>,
    },
    /// `BITMAP_BUILD_AGG` and its kin: a BITMAP, NULL if there is no value.
    Bitmap {
        /// What is made of the values.
        operation: BitmapOperation,
        /// `.._CARDINALITY_AGG`: how many values the bitmap has, a BIGINT, instead of the bitmap.
        cardinality: bool,
    },
}

/// What an aggregate makes a bitmap of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapOperation {
    /// INTs, as unsigned ones.
    Build,
    /// What is in all BITMAPs.
    And,
    /// What is in one of the BITMAPs.
    Or,
    /// What is in an odd number of the BITMAPs.
    Xor,
}
