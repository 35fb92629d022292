//! Random numbers for tests, from a seed that is printed.
//!
//! One file for all tests: the integration tests have it as a module, and the unit tests of the
//! library and of the binary include it by its path. A failed test shows the seed in its output;
//! with the same seed it takes the same steps again.

#![allow(dead_code, reason = "each of the three crates needs another part")]

/// Vigna's SplitMix64: good enough for choosing, the same on every machine, and no dependency.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of this seed, which is printed.
    pub(crate) fn new(seed: u64) -> Random {
        println!("seed {seed}");
        Random(seed)
    }

    /// A sequence of its own, for another task.
    pub(crate) fn split(&mut self) -> Random {
        Random(self.next())
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A position in a list of this length, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        (self.next() % len as u64) as usize
    }

    /// Any byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
