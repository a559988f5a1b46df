//! Where the strings of a JSON text may end: a bit for every byte that a string can't hold as it is.

/// Bytes of a block: one word of the index.
const BLOCK: usize = 64;

/// An index over a text: for every byte whether it is a quote, a backslash or a control character.
///
/// To look for the end of a string is then to look for a bit, whatever the string's length; line feeds are
/// marked, too, so that a string that has no end in its line is found out on the way.
#[derive(Debug, Default)]
pub struct Marks {
    /// A bit a byte, lowest first; behind the text all bits are set.
    words: Vec<u64>,
    is_ascii: bool,
}

impl Marks {
    /// Of a text.
    #[cfg(test)]
    pub fn of(text: &[u8]) -> Marks {
        let mut marks = Marks::default();
        marks.index(text);
        marks
    }

    /// Turns to another text.
    pub fn index(&mut self, text: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            return unsafe { self.index_wide(text) };
        }
        self.index_by(text, mark);
    }

    /// [`Marks::index`], with 32 bytes at a time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn index_wide(&mut self, text: &[u8]) {
        self.index_by(text, |block| mark_wide(block));
    }

    #[inline(always)]
    fn index_by(&mut self, text: &[u8], mark: impl Fn(&[u8; BLOCK]) -> (u64, u64)) {
        let (blocks, rest) = text.as_chunks::<BLOCK>();
        let mut seen = 0;
        self.words.clear();
        self.words.extend(blocks.iter().map(|block| {
            let (word, high) = mark(block);
            seen |= high;
            word
        }));
        // Zeros are control characters: what is behind the text is marked.
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let (word, high) = mark(&last);
        // Three words can be looked at from any place in the text.
        self.words.extend([word, u64::MAX, u64::MAX]);
        self.is_ascii = seen | high == 0;
    }

    /// Whether every byte of the text is below 128.
    pub fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// The first marked byte from `at` on; without one, a place behind the text.
    ///
    /// Of most strings the length can't be foreseen, but that they are shorter than two blocks.
    #[inline(always)]
    pub fn next(&self, at: usize) -> usize {
        let block = at / BLOCK;
        let Some([a, b, c]) = self.words.get(block..).and_then(|words| words.first_chunk::<3>()) else {
            return usize::MAX;
        };
        let from_at = |low: u64, high: u64| ((u128::from(high) << 64 | u128::from(low)) >> (at % BLOCK)) as u64;
        let (first, second) = (from_at(*a, *b), from_at(*b, *c));
        if first | second == 0 {
            return self.next_after(block + 2);
        }
        let (word, skipped) = if first == 0 { (second, BLOCK) } else { (first, 0) };
        at + skipped + word.trailing_zeros() as usize
    }

    /// The first marked byte of `block` or a later one.
    #[inline(never)]
    fn next_after(&self, block: usize) -> usize {
        let later = self.words.get(block..).unwrap_or_default();
        match later.iter().position(|word| *word != 0) {
            Some(i) => (block + i) * BLOCK + later[i].trailing_zeros() as usize,
            None => usize::MAX,
        }
    }
}

/// [`mark`], with 32 bytes at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn mark_wide(block: &[u8; BLOCK]) -> (u64, u64) {
    use std::arch::x86_64::*;
    let (quote, backslash) = (_mm256_set1_epi8(b'"' as i8), _mm256_set1_epi8(b'\\' as i8));
    let last_control = _mm256_set1_epi8(b' ' as i8 - 1);
    let (mut bits, mut seen) = (0, 0);
    for (i, part) in block.as_chunks::<32>().0.iter().enumerate() {
        let words = part.as_chunks::<8>().0;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| i64::from_le_bytes(words[i]));
        let bytes = _mm256_set_epi64x(d, c, b, a);
        let is_control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, last_control), bytes);
        let is_delimiter = _mm256_or_si256(_mm256_cmpeq_epi8(bytes, quote), _mm256_cmpeq_epi8(bytes, backslash));
        let marked = _mm256_movemask_epi8(_mm256_or_si256(is_control, is_delimiter)) as u32;
        bits |= u64::from(marked) << (32 * i);
        seen |= _mm256_movemask_epi8(bytes) as u32;
    }
    (bits, seen.into())
}

/// A block's bits, and a number that is 0 if all its bytes are below 128. For any processor.
fn mark(block: &[u8; BLOCK]) -> (u64, u64) {
    let (mut marked, mut seen) = ([0; BLOCK], 0);
    for (marked, byte) in marked.iter_mut().zip(block) {
        *marked = u8::from(*byte < b' ') | u8::from(*byte == b'"') | u8::from(*byte == b'\\');
        seen |= byte;
    }
    let mut bits = 0;
    for (i, part) in marked.as_chunks::<8>().0.iter().enumerate() {
        // The product's highest byte has each factor's byte, which is 0 or 1, as a bit.
        bits |= (u64::from_le_bytes(*part).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    (bits, (seen & 0x80).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks a block's bits, of either way to find them.
    fn check(block: &[u8; BLOCK]) {
        let is_marked = |b: &u8| *b < b' ' || *b == b'"' || *b == b'\\';
        let wanted = block.iter().rev().fold(0, |bits, b| bits << 1 | u64::from(is_marked(b)));
        let mut found = vec![mark(block)];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            found.push(unsafe { mark_wide(block) });
        }
        for (bits, high) in found {
            assert_eq!((bits, high == 0), (wanted, block.is_ascii()), "{block:?}");
        }
    }

    #[test]
    fn every_byte_is_marked_or_not_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                for around in [b'x', 0, b'"', 0xFF] {
                    let mut block = [around; BLOCK];
                    block[at] = byte;
                    check(&block);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_next_mark_is_the_next_such_byte(text in prop::collection::vec(
            prop_oneof![30 => Just(b'a'), 1 => Just(b'"'), 1 => Just(b'\\'), 1 => any::<u8>()], 0..400
        )) {
            let marks = Marks::of(&text);
            prop_assert_eq!(marks.is_ascii(), text.is_ascii());
            for at in 0..=text.len() {
                let is_marked = |b: &u8| *b < b' ' || *b == b'"' || *b == b'\\';
                let found = text.iter().skip(at).position(is_marked).map_or(text.len(), |i| at + i);
                prop_assert_eq!(marks.next(at).min(text.len()), found);
            }
        }
    }
}
