//! Masking (RFC 6455 section 5.3): XOR with four bytes, over and over, at memory speed.
//!
//! A mask is passed as the four bytes that apply to the next payload bytes; what is returned applies to the
//! bytes behind those. So no phase has to be kept beside it. Masking and unmasking are the same.

use std::ops::Range;

/// Bytes worked on at once: a few vector registers, read whole before they are written.
const BLOCK: usize = 64;

/// Unmasks `bytes` where they are.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    if mask != [0; 4] {
        let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
        for block in blocks {
            xor_block(block, mask);
        }
        xor_rest(rest, mask);
    }
    behind(mask, bytes.len())
}

/// Unmasks the bytes `from` and moves them down to `to`, in one pass.
///
/// # Panics
/// If `to` is behind `from.start`, or `from` is not in `bytes`.
pub fn unmask_down(bytes: &mut [u8], from: Range<usize>, to: usize, mask: [u8; 4]) -> [u8; 4] {
    assert!(to <= from.start && from.end <= bytes.len(), "bytes move down, within the buffer");
    let len = from.len();
    if to == from.start {
        return unmask(&mut bytes[from], mask);
    }
    if mask == [0; 4] {
        bytes.copy_within(from, to);
        return mask;
    }
    let (mut source, mut target) = (from.start, to);
    // A block is read whole before it is written, and is written no further than it was read: overlap does
    // no harm.
    while from.end - source >= BLOCK {
        let mut block = [0; BLOCK];
        block.copy_from_slice(&bytes[source..source + BLOCK]);
        xor_block(&mut block, mask);
        bytes[target..target + BLOCK].copy_from_slice(&block);
        source += BLOCK;
        target += BLOCK;
    }
    let rest = from.end - source;
    let mut block = [0; BLOCK];
    block[..rest].copy_from_slice(&bytes[source..from.end]);
    xor_block(&mut block, mask);
    bytes[target..target + rest].copy_from_slice(&block[..rest]);
    behind(mask, len)
}

/// The mask for the bytes behind `len` bytes.
pub fn behind(mask: [u8; 4], len: usize) -> [u8; 4] {
    u32::from_le_bytes(mask).rotate_right(8 * (len % 4) as u32).to_le_bytes()
}

/// Written over words so that it becomes vector instructions at any optimisation level that has them.
#[inline(always)]
fn xor_block(block: &mut [u8; BLOCK], mask: [u8; 4]) {
    let key = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, _) = block.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
}

#[inline(always)]
fn xor_rest(rest: &mut [u8], mask: [u8; 4]) {
    let key = u32::from_ne_bytes(mask);
    let (words, bytes) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in bytes.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// The loop of the RFC.
    fn naive(bytes: &[u8], mask: [u8; 4], phase: usize) -> Vec<u8> {
        bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[(i + phase) % 4]).collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 167 + i / 7) as u8).collect()
    }

    #[test]
    fn agrees_with_the_naive_loop_at_every_length_alignment_and_phase() {
        for len in 0..=300 {
            for align in 0..16 {
                for phase in 0..4 {
                    let mut bytes = noise(align + len + 16);
                    let mask = behind(KEY, phase);
                    let mut want = bytes.clone();
                    want[align..align + len].copy_from_slice(&naive(&bytes[align..align + len], KEY, phase));
                    let next = unmask(&mut bytes[align..align + len], mask);
                    assert_eq!(bytes, want, "length {len} alignment {align} phase {phase}");
                    assert_eq!(next, behind(KEY, phase + len));
                }
            }
        }
    }

    #[test]
    fn moves_down_over_any_distance_and_touches_nothing_else() {
        for len in 0..=300 {
            for shift in [0, 1, 3, 4, 7, 8, 16, 63, 64, 65, 200] {
                for mask in [KEY, [0; 4]] {
                    let mut bytes = noise(8 + shift + len + 8);
                    let from = 8 + shift..8 + shift + len;
                    let mut want = bytes.clone();
                    want[8..8 + len].copy_from_slice(&naive(&bytes[from.clone()], mask, 0));
                    let next = unmask_down(&mut bytes, from.clone(), 8, mask);
                    assert_eq!(bytes[..8 + len], want[..8 + len], "length {len} shift {shift}");
                    assert_eq!(bytes[from.end..], want[from.end..]);
                    assert_eq!(next, behind(mask, len));
                }
            }
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        // Section 5.7: a masked "Hello".
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut bytes, KEY);
        assert_eq!(&bytes, b"Hello");
    }
}
