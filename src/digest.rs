//! Digests that stay the same from build to build.

/// FNV-1a, 64 bits (Fowler, Noll, Vo): the standard library promises no stable hash, and a digest that changed with the
/// compiler would write every Deployment anew.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the algorithm's own page (isthe.com/chongo/tech/comp/fnv).
    #[test]
    fn it_is_fnv1a() {
        for (text, digest) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(text.as_bytes()), digest, "{text}");
        }
    }
}
