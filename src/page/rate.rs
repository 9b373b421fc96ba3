//! How many requests one address may make: a bucket of tokens each, in bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most addresses that are remembered.
const MOST_ADDRESSES: usize = 10_000;

/// Requests in a second, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// In a second, for ever.
    pub(super) per_second: u32,
    /// At once, after a pause.
    pub(super) burst: u32,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a request that may still be made.
    left: u64,
    since: Instant,
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Limiter {
    /// No address has made a request yet.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes a token of an address; whether there was one.
    pub(super) fn admits(&self, address: IpAddr, now: Instant) -> bool {
        let full = u64::from(self.rate.burst) * 1000;
        let filled = |bucket: &Bucket| {
            let millis =
                u64::try_from(now.saturating_duration_since(bucket.since).as_millis()).unwrap_or(u64::MAX);
            bucket.left.saturating_add(millis.saturating_mul(self.rate.per_second.into())).min(full)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_ADDRESSES {
            // An address whose bucket is full again is one that nothing is known of.
            buckets.retain(|_, bucket| filled(bucket) < full);
            if buckets.len() >= MOST_ADDRESSES {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(household(address)).or_insert(Bucket { left: full, since: now });
        let left = filled(bucket);
        // Time that has given no whole thousandth yet is not lost: it counts from when the last was taken.
        if left > bucket.left || now.saturating_duration_since(bucket.since) > Duration::from_secs(1) {
            *bucket = Bucket { left, since: now };
        }
        let admitted = bucket.left >= 1000;
        if admitted {
            bucket.left -= 1000;
        }
        admitted
    }
}

/// Whoever has one address of version 6 has 2^64 of them.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_and_then_so_many_a_second() {
        let limiter = Limiter::new(Rate { per_second: 10, burst: 5 });
        let (start, one) = (Instant::now(), IpAddr::from([10, 0, 0, 1]));
        let admitted = |at: Duration| (0..20).filter(|_| limiter.admits(one, start + at)).count();
        assert_eq!(admitted(Duration::ZERO), 5);
        assert_eq!(admitted(Duration::from_millis(99)), 0);
        assert_eq!(admitted(Duration::from_millis(300)), 3);
        assert_eq!(admitted(Duration::from_mins(1)), 5);
        assert!(limiter.admits(IpAddr::from([10, 0, 0, 2]), start), "another address has its own");
    }

    #[test]
    fn addresses_of_one_network_share_and_memory_is_bounded() {
        let limiter = Limiter::new(Rate { per_second: 1, burst: 1 });
        let now = Instant::now();
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(limiter.admits(address("2001:db8::1"), now));
        assert!(!limiter.admits(address("2001:db8::2"), now));
        assert!(limiter.admits(address("2001:db8:0:1::2"), now));
        for number in 0..25_000_u32 {
            limiter.admits(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(limiter.buckets.lock().expect("no panic").len() <= MOST_ADDRESSES);
    }
}
