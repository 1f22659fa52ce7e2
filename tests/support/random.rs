//! Random choices that a seed repeats. The seed of a run is printed; `LATCHKEY_TEST_SEED` gives one.

use super::wait;

/// The run's seed: that of `LATCHKEY_TEST_SEED`, or another each time.
pub fn seed() -> u64 {
    let seed = std::env::var("LATCHKEY_TEST_SEED").ok();
    let seed = seed.map(|seed| seed.parse().expect("LATCHKEY_TEST_SEED is a whole number"));
    seed.unwrap_or_else(wait::unix_millis)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One of the generators of a seed: each number gives another.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next() ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("64 bits");
        usize::try_from(self.next() % bound).expect("it is below a usize")
    }
}
