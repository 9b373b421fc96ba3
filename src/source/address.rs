//! Which addresses may be contacted on behalf of a user's spec: never the cluster's own insides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much a host is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Named by a user: public addresses only.
    User,
    /// Named by the operator as one that may be contacted: private networks too.
    Allowed,
    /// The configured endpoint: whatever it is.
    Endpoint,
}

/// Why an address must not be contacted, if so.
pub(super) fn refusal(address: IpAddr, trust: Trust) -> Option<&'static str> {
    let refusal = match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => refusal_v4(address),
            None => refusal_v6(address),
        },
    };
    match (refusal, trust) {
        (None, _) | (_, Trust::Endpoint) | (Some((_, true)), Trust::Allowed) => None,
        (Some((why, _)), _) => Some(why),
    }
}

/// Why, and whether the operator may allow it by naming the host.
const fn refusal_v4(address: Ipv4Addr) -> Option<(&'static str, bool)> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (0, ..) => ("its address is unspecified", false),
        (127, ..) => ("its address is a loopback address", false),
        (169, 254, _) => ("its address is link-local, where clouds serve credentials", false),
        // Alibaba's metadata service.
        (100, 100, 100) => ("its address is a cloud's metadata service", false),
        (10, ..)
        | (172, 16..=31, _)
        | (192, 168, _)
        | (100, 64..=127, _)
        | (192, 0, 0)
        | (198, 18..=19, _) => ("its address is in a private network; add it to the allowed hosts", true),
        (224.., ..) => ("its address is multicast or reserved", false),
        _ => return None,
    })
}

const fn refusal_v6(address: Ipv6Addr) -> Option<(&'static str, bool)> {
    let [first, ..] = address.segments();
    if address.is_loopback() {
        return Some(("its address is a loopback address", false));
    }
    Some(match first {
        0 if address.is_unspecified() => ("its address is unspecified", false),
        0xfe80..=0xfebf => ("its address is link-local", false),
        // AWS serves its metadata at fd00:ec2::254.
        0xfd00 if address.segments()[1] == 0x0ec2 => ("its address is a cloud's metadata service", false),
        0xfc00..=0xfdff | 0xfec0..=0xfeff => {
            ("its address is in a private network; add it to the allowed hosts", true)
        }
        0xff00.. => ("its address is multicast", false),
        _ => return None,
    })
}

/// An IPv4 address inside an IPv6 one: mapped, compatible, NAT64, or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let (prefix, [a, b, c, d]) = (octets.first_chunk::<12>()?, *octets.last_chunk::<4>()?);
    let last = Ipv4Addr::new(a, b, c, d);
    match *prefix {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] => Some(last),
        // `::` and `::1` are their own.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] if (a, b) != (0, 0) => Some(last),
        [0x20, 0x02, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_insides_are_refused_to_users() {
        for (address, user, allowed) in [
            ("127.0.0.1", false, false),
            ("127.8.8.8", false, false),
            ("0.0.0.0", false, false),
            ("169.254.169.254", false, false),
            ("100.100.100.200", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("10.96.0.1", false, true),
            ("172.16.0.1", false, true),
            ("172.32.0.1", true, true),
            ("192.168.1.1", false, true),
            ("100.64.0.1", false, true),
            ("3.33.33.3", true, true),
            ("::1", false, false),
            ("::", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("fd12::1", false, true),
            ("ff02::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("::ffff:10.0.0.1", false, true),
            ("64:ff9b::169.254.169.254", false, false),
            ("::127.0.0.1", false, false),
            ("2002:7f00:1::", false, false),
            ("2600:9000::1", true, true),
        ] {
            let parsed: IpAddr = address.parse().expect(address);
            assert_eq!(refusal(parsed, Trust::User).is_none(), user, "{address} of a user");
            assert_eq!(refusal(parsed, Trust::Allowed).is_none(), allowed, "{address} allowed");
            assert_eq!(refusal(parsed, Trust::Endpoint), None, "{address} as endpoint");
        }
    }
}
