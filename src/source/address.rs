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
        // The metadata services of Alibaba, of Azure's hosts and of Oracle.
        (100, 100, 100) | (168, 63, 129) | (192, 0, 0) => {
            ("its address is a cloud's metadata service", false)
        }
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (198, 18..=19, _) => {
            ("its address is in a private network; add it to the allowed hosts", true)
        }
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => ("its address is for examples", false),
        (192, 88, 99) => ("its address leads through a relay", false),
        (224.., ..) => ("its address is multicast or reserved", false),
        _ => return None,
    })
}

const fn refusal_v6(address: Ipv6Addr) -> Option<(&'static str, bool)> {
    let [first, second, third, ..] = address.segments();
    if address.is_loopback() {
        return Some(("its address is a loopback address", false));
    }
    Some(match first {
        0 if address.is_unspecified() => ("its address is unspecified", false),
        0xfe80..=0xfebf => ("its address is link-local", false),
        // What is behind them is another's to say: translated by this network, or reached by a tunnel.
        0x64 if second == 0xff9b && third == 1 => ("its address is translated by this network", false),
        0x2001 if second == 0 => ("its address is that of a tunnel (Teredo)", false),
        0x2001 if second == 0x0db8 => ("its address is for examples", false),
        0x0100 if second == 0 && third == 0 => ("its address discards what is sent", false),
        // AWS serves its metadata at fd00:ec2::254, Oracle at fd00:c1::a9fe:a9fe, Google at fd20:ce::254.
        0xfd00 if second == 0x0ec2 || second == 0x00c1 => {
            ("its address is a cloud's metadata service", false)
        }
        0xfd20 if second == 0x00ce => ("its address is a cloud's metadata service", false),
        0xfc00..=0xfdff | 0xfec0..=0xfeff => {
            ("its address is in a private network; add it to the allowed hosts", true)
        }
        0xff00.. => ("its address is multicast", false),
        _ => return None,
    })
}

/// The address that a host is, if it is one in any form: in brackets or not, and as libraries of C read it, decimal, octal or
/// hexadecimal, with one to four parts.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.split('%').next().unwrap_or(host);
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let parts: Option<Vec<u64>> = host.split('.').map(number).collect();
    let parts = parts?;
    let (last, leading) = parts.split_last()?;
    let room = 4_usize.checked_sub(leading.len()).filter(|room| *room > 0)?;
    let most = u64::from(u32::MAX) >> (8 * (4 - room));
    if *last > most || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let leading = leading.iter().fold(0_u64, |address, part| address << 8 | part);
    let address = leading << (8 * room) | last;
    u32::try_from(address).ok().map(|address| IpAddr::V4(address.into()))
}

/// A number as `inet_aton` reads it.
fn number(text: &str) -> Option<u64> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    if !digits.chars().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(if digits.is_empty() { "0" } else { digits }, radix).ok().filter(|_| !text.is_empty())
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
    fn an_address_is_read_in_every_form() {
        let metadata: IpAddr = "169.254.169.254".parse().expect("an address");
        for text in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0XA9FEA9FE",
            "025177524776",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.16689662",
            "0xa9.254.0251.0xfe",
            "169.254.169.254.",
            "00251.254.169.254",
        ] {
            assert_eq!(literal(text), Some(metadata), "{text}");
        }
        for text in ["[::ffff:169.254.169.254]", "[fe80::1%eth0]", "[64:ff9b:1::a9fe:a9fe]"] {
            let address = literal(text).expect(text);
            assert!(refusal(address, Trust::Allowed).is_some(), "{text}");
        }
        for text in [
            "huggingface.co",
            "",
            ".",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3.256",
            "4294967296",
            "09.1.1.1",
            "0xg",
            "1..2",
            "a9fea9fe",
            "1.2.3.x",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

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
            ("168.63.129.16", false, false),
            ("192.0.0.192", false, false),
            ("203.0.113.7", false, false),
            ("192.88.99.1", false, false),
            ("64:ff9b:1::a9fe:a9fe", false, false),
            ("2001:0:a9fe:a9fe::1", false, false),
            ("2001:4860:4860::8888", true, true),
            ("2002:a9fe:a9fe::1", false, false),
            ("2002:303:303::1", true, true),
            ("fd20:ce::254", false, false),
            ("fd00:c1::a9fe:a9fe", false, false),
            ("::ffff:0:169.254.169.254", false, false),
        ] {
            let parsed: IpAddr = address.parse().expect(address);
            assert_eq!(refusal(parsed, Trust::User).is_none(), user, "{address} of a user");
            assert_eq!(refusal(parsed, Trust::Allowed).is_none(), allowed, "{address} allowed");
            assert_eq!(refusal(parsed, Trust::Endpoint), None, "{address} as endpoint");
        }
    }
}
