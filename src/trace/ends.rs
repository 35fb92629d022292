//! The two ends of a client's connection, as the numbers of a record.
//!
//! An address is 128 bits, so it takes two fields. One of IPv4 is the IPv6 address that stands for
//! it (`::ffff:a.b.c.d`), and is shown as one of IPv4 again.
//!
//! Left out: the paths of socket files, which are text. A connection over one has no record.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// One end of a connection over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    address: Ipv6Addr,
    port: u16,
}

/// Both ends of a connection over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    from: End,
    to: End,
}

impl End {
    fn of(socket: SocketAddr) -> End {
        let address = match socket.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        End { address, port: socket.port() }
    }

    fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address.to_canonical(), self.port)
    }

    fn numbers(self) -> [u64; 3] {
        let (high, low) = halves(self.address.to_bits());
        [high, low, u64::from(self.port)]
    }

    /// `None` if the number is no port.
    fn of_numbers([high, low, port]: [u64; 3]) -> Option<End> {
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        Some(End { address: Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)), port })
    }
}

fn halves(bits: u128) -> (u64, u64) {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    (half(bits >> 64), half(bits))
}

impl Ends {
    /// Of a connection from the client's socket to the member's.
    pub fn new(from: SocketAddr, to: SocketAddr) -> Ends {
        Ends { from: End::of(from), to: End::of(to) }
    }

    /// The client's end.
    pub fn from(self) -> SocketAddr {
        self.from.socket()
    }

    /// The member's end: the address at which the client has reached it.
    pub fn to(self) -> SocketAddr {
        self.to.socket()
    }

    /// As records carry them: of either end, the upper and the lower half of the address, and the
    /// port.
    pub fn numbers(self) -> [[u64; 3]; 2] {
        [self.from, self.to].map(End::numbers)
    }

    /// Reads them back; `None` if they are no ends of a connection.
    pub fn of_numbers([from, to]: [[u64; 3]; 2]) -> Option<Ends> {
        Some(Ends { from: End::of_numbers(from)?, to: End::of_numbers(to)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_come_back_from_their_numbers() {
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (from, to) in
            [("10.1.2.80:40312", "127.0.0.1:2379"), ("[2001:db8::7]:1", "[::1]:65535")]
        {
            let numbers = Ends::new(socket(from), socket(to)).numbers();
            let ends = Ends::of_numbers(numbers).unwrap();
            assert_eq!((socket(from), socket(to)), (ends.from(), ends.to()));
        }
        // A socket for both kinds gives an address of IPv4 in the form of IPv6.
        let mapped = Ends::new(socket("[::ffff:10.1.2.80]:9"), socket("[::ffff:10.0.0.1]:2379"));
        assert_eq!(socket("10.1.2.80:9"), mapped.from());
    }

    #[test]
    fn numbers_without_a_port_are_no_ends() {
        assert_eq!(None, Ends::of_numbers([[0; 3]; 2]));
        assert_eq!(None, Ends::of_numbers([[0, 1, 1], [0, 1, 65_536]]));
    }
}
