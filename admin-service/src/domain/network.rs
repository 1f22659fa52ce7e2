//! The one reader of networks: whatever names one is read here, so that no two readers understand it differently.

use std::net::IpAddr;

use ipnet::IpNet;

use super::text::Invalid;

/// Reads a network such as `10.0.0.0/8`, or a single address such as `2001:db8::1`. Numbers with leading zeros are refused:
/// some readers take them as octal.
///
/// # Errors
/// [`Invalid`] when it is neither, or has bits set after its prefix.
pub fn network(text: &str) -> Result<IpNet, Invalid> {
    let malformed =
        || Invalid::because("must hold networks such as \"10.0.0.0/8\" or addresses such as \"2001:db8::1\"");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| malformed())?;
    let Some(length) = length else { return Ok(address.into()) };
    let is_number = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = length.parse().ok().filter(|_| is_number).ok_or_else(malformed)?;
    let network = IpNet::new(address, length).map_err(|_| malformed())?;
    if network.addr() == network.network() {
        return Ok(network);
    }
    let truncated = network.trunc();
    Err(Invalid(format!("must hold networks without bits after their prefix: {truncated} and not {network}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_as_it_is_written() {
        for (text, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), Ok(read));
        }
    }

    #[test]
    fn what_another_reader_could_take_otherwise_is_refused() {
        for bad in [
            "010.1.1.1/32",
            "010.1.1.1",
            "10.1.1.01/32",
            "0x0a.1.1.1/32",
            "10.1/16",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0 /8",
            "::1%eth0",
            "[::1]/128",
            "",
            "/8",
            "localhost",
        ] {
            assert!(network(bad).is_err(), "{bad:?}");
        }
    }
}
