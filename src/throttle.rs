//! Log lines that may come with every request: a few in each interval are written, the others are counted. Pure; times are
//! durations since any fixed moment.

use std::time::Duration;

/// Lets a few lines through in each interval.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    lines: u32,
    interval: Duration,
    /// When the interval began, and how many lines it has had.
    since: Option<Duration>,
    written: u32,
    left_out: u64,
}

impl Throttle {
    /// So many lines in each interval.
    #[must_use]
    pub const fn new(lines: u32, interval: Duration) -> Self {
        Self { lines, interval, since: None, written: 0, left_out: 0 }
    }

    /// Whether a line may be written now: then, how many were left out since the one before.
    pub fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_sub(since) >= self.interval) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written < self.lines {
            self.written += 1;
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out = self.left_out.saturating_add(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_are_written_in_each_interval_and_the_others_are_counted() {
        let mut throttle = Throttle::new(2, Duration::from_secs(10));
        let mut at = |seconds| throttle.admit(Duration::from_secs(seconds));
        assert_eq!((at(5), at(6), at(7), at(14)), (Some(0), Some(0), None, None));
        assert_eq!((at(15), at(15), at(24)), (Some(2), Some(0), None));
        assert_eq!(at(100), Some(1));
    }

    #[test]
    fn no_line_is_lost_from_the_count_however_many_there_are() {
        let mut throttle = Throttle::new(3, Duration::from_millis(100));
        let (mut written, mut left_out) = (0, 0);
        for millis in 0..10_000 {
            if let Some(before) = throttle.admit(Duration::from_millis(millis)) {
                (written, left_out) = (written + 1, left_out + before);
            }
        }
        assert_eq!(written, 3 * 100);
        assert_eq!(written + left_out + throttle.left_out, 10_000);
    }
}
