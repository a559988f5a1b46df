//! Values of BITMAP: sets of 32-bit unsigned integers, carried in the portable format of Roaring bitmaps.

use crate::{Error, Result};
use std::fmt::Write;

pub use roaring::RoaringBitmap;

/// Text longer than this ends in `...`, as that of Java's RoaringBitmap does.
const TEXT_MAX: usize = 0x8_0000;

/// The set that `bytes` carry; what stands behind it is ignored.
///
/// # Errors
///
/// Of data, for bytes that are not of the format (<https://github.com/RoaringBitmap/RoaringFormatSpec>).
pub fn read(bytes: &[u8]) -> Result<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes).map_err(|e| {
        Error::data("bytes that are no bitmap")
            .detail(e.to_string())
            .hint("a bitmap is read from the portable serialization of Roaring bitmaps, as BITMAP_TO_BYTES gives it")
    })
}

/// The bytes that carry a set: the same for equal sets, however they came about.
pub fn write(mut set: RoaringBitmap) -> Vec<u8> {
    // A run and an array may be equally long: from one state there is one result.
    set.remove_run_compression();
    set.optimize();
    let mut bytes = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut bytes).expect("writing into memory succeeds");
    bytes
}

/// The set as Flink writes it: `{1,2,3}`.
pub fn write_text(out: &mut String, set: &RoaringBitmap) {
    let start = out.len();
    out.push('{');
    for (i, value) in set.iter().enumerate() {
        if i > 0 {
            out.push(',');
            if out.len() - start > TEXT_MAX {
                out.push_str("...");
                break;
            }
        }
        let _ = write!(out, "{value}");
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02X}")).collect()
    }

    /// The bytes are those of Java's RoaringBitmap after its `runOptimize`.
    #[test]
    fn bytes_are_the_portable_format() {
        let check = |values: &[u32], expect: &str| {
            let bytes = write(values.iter().copied().collect());
            assert_eq!(hex(&bytes), expect, "{values:?}");
            assert_eq!(read(&bytes).unwrap(), values.iter().copied().collect());
        };
        check(&[], "3A30000000000000");
        check(&[1, 2], "3A30000001000000000001001000000001000200");
        // Four in a row are shorter as a run; three are not.
        check(&[1, 2, 3], "3A300000010000000000020010000000010002000300");
        check(&[1, 2, 3, 4], "3B3000000100000300010001000300");
    }

    #[test]
    fn equal_sets_have_equal_bytes_however_they_came_about() {
        let mut runs: RoaringBitmap = (0..100_000).collect();
        runs.optimize();
        runs &= (7..10).collect::<RoaringBitmap>();
        assert_eq!(write(runs), write([9, 8, 7].into_iter().collect()));
    }

    #[test]
    fn text_is_unsigned_and_cut_when_it_is_long() {
        let check = |set: RoaringBitmap| {
            let mut out = String::new();
            write_text(&mut out, &set);
            out
        };
        assert_eq!(check(RoaringBitmap::new()), "{}");
        assert_eq!(check([u32::MAX, 5].into_iter().collect()), "{5,4294967295}");
        let long = check((0..1_000_000).collect());
        assert!(long.ends_with(",...}") && long.len() < TEXT_MAX + 20, "{}", long.len());
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"invalid", &[0x3A, 0x30, 0, 0, 255, 255, 255, 255], &[0x3B, 0x30, 255, 255]] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.starts_with("bytes that are no bitmap"), "{error}");
        }
    }
}
