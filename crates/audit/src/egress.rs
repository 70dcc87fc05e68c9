//! Where the gateway goes on the word of whoever uses the management API: over https to public addresses, unless the
//! configuration's `egress.allow` says more. Checked when it is saved, and again at each connection, whose addresses are
//! those that were checked: a name that leads elsewhere later leads nowhere. What files declare is not checked.

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use policy::problems::Problem;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Url};

/// A look at where a name leads; whoever waits for it is a person.
const LOOK_UP: Duration = Duration::from_secs(3);

/// What destinations and webhooks of the management API may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    allow: Vec<Allowed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// A host by its name, in lower case.
    Host(String),
    /// Every host whose name ends so, the dot included.
    Below(String),
    /// Addresses that have these first bits.
    Network(IpAddr, u8),
}

/// Why something may not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Not a URL with a host.
    #[error("is not a URL with a host: write it like `https://host/path`")]
    NotAUrl,
    /// A URL with a user or a password in it.
    #[error("must not hold a user or a password")]
    Credentials,
    /// In the clear.
    #[error(
        "must be https: what the management API saves goes over the network encrypted, unless `egress.allow` in the \
         configuration lists `{0}`"
    )]
    NotHttps(String),
    /// Not an address of the public internet.
    #[error(
        "`{host}` is not public ({address}): what the management API saves may reach public addresses only, unless \
         `egress.allow` in the configuration lists it"
    )]
    NotPublic {
        /// As in the URL.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// It cannot be found out.
    #[error("`{host}` cannot be resolved: {cause}")]
    Unresolved {
        /// As in the URL.
        host: String,
        /// What the system said.
        cause: String,
    },
}

impl Egress {
    /// Reads `egress.allow`: names (`siem.internal`, `*.internal`), addresses, and networks (`10.0.0.0/8`).
    ///
    /// # Errors
    /// Every entry that is none, with its path.
    pub fn parse(entries: &[String]) -> Result<Self, Vec<Problem>> {
        let (mut allow, mut problems) = (Vec::with_capacity(entries.len()), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match parse_allowed(entry.trim()) {
                Some(allowed) => allow.push(allowed),
                None => problems.push(Problem::new(
                    format!("egress.allow[{at}]"),
                    "not a host or a network: write it like `siem.internal`, `*.internal`, `10.1.2.3` or `10.0.0.0/8`",
                )),
            }
        }
        if problems.is_empty() { Ok(Self { allow }) } else { Err(problems) }
    }

    /// Checks what a URL itself says: https, and no address that is not public.
    ///
    /// # Errors
    /// [`EgressError`].
    pub fn check(&self, url: &str) -> Result<(), EgressError> {
        self.host(url).map(drop)
    }

    /// Checks a URL, and where its name leads now. That it leads nowhere is no reason to refuse it: it may later.
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn check_now(&self, url: &str) -> Result<(), EgressError> {
        let host = self.host(url)?;
        if host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        match tokio::time::timeout(LOOK_UP, self.resolve(&host)).await {
            Ok(Err(error @ EgressError::NotPublic { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    /// A client that connects to nothing else. It uses no proxy: behind one, nobody could say where it goes.
    pub fn guard(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.no_proxy().dns_resolver(std::sync::Arc::new(Guard(self.clone())))
    }

    /// The addresses of a host that may be reached.
    ///
    /// # Errors
    /// [`EgressError`] where there is none.
    pub async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, EgressError> {
        let found = tokio::net::lookup_host((host, 0)).await;
        let found = found
            .map_err(|error| EgressError::Unresolved { host: host.to_owned(), cause: error.to_string() })?;
        self.choose(host, found)
    }

    /// Of these addresses of a host, those that may be reached.
    fn choose(
        &self,
        host: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let (good, bad): (Vec<_>, Vec<_>) = found.partition(|address| self.permits(host, address.ip()));
        match (good.is_empty(), bad.first()) {
            (false, _) => Ok(good),
            (true, Some(bad)) => Err(EgressError::NotPublic { host: host.to_owned(), address: bad.ip() }),
            (true, None) => {
                Err(EgressError::Unresolved { host: host.to_owned(), cause: "it has no address".to_owned() })
            }
        }
    }

    /// The host of a URL that may be reached as far as the URL itself tells.
    fn host(&self, url: &str) -> Result<String, EgressError> {
        let url = Url::parse(url).map_err(|_| EgressError::NotAUrl)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EgressError::NotAUrl)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Credentials);
        }
        let address = host.parse::<IpAddr>();
        let is_allowed =
            self.allows_name(&host) || address.as_ref().is_ok_and(|address| self.allows_address(*address));
        match url.scheme() {
            "https" => {}
            "http" if is_allowed => {}
            "http" => return Err(EgressError::NotHttps(host)),
            _ => return Err(EgressError::NotAUrl),
        }
        match address {
            Ok(address) if !self.permits(&host, address) => Err(EgressError::NotPublic { host, address }),
            Err(_) if !is_allowed && (host == "localhost" || host.ends_with(".localhost")) => {
                Err(EgressError::NotPublic { host, address: Ipv4Addr::LOCALHOST.into() })
            }
            _ => Ok(host),
        }
    }

    fn permits(&self, host: &str, address: IpAddr) -> bool {
        is_public(address) || self.allows_name(host) || self.allows_address(address)
    }

    fn allows_name(&self, host: &str) -> bool {
        self.allow.iter().any(|allowed| match allowed {
            Allowed::Host(name) => name == host,
            Allowed::Below(suffix) => host.ends_with(suffix.as_str()) && host.len() > suffix.len(),
            Allowed::Network(..) => false,
        })
    }

    fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow.iter().any(
            |allowed| matches!(allowed, Allowed::Network(network, bits) if is_within(*network, *bits, address)),
        )
    }
}

thread_local! {
    /// The guard of the destination that is being set up on this thread, and whether it was asked for.
    static HERE: RefCell<(Option<Egress>, bool)> = const { RefCell::new((None, false)) };
}

/// Sets something up, at once and on this thread, whose HTTP clients are guarded; and whether they were. Kinds of destinations
/// set up their clients by way of [`guard_here`], and so need not know that there are guards.
pub(crate) fn within<T>(egress: Option<&Egress>, set_up: impl FnOnce() -> T) -> (T, bool) {
    let before = HERE.replace((egress.cloned(), false));
    let done = set_up();
    let (_, was_asked) = HERE.replace(before);
    (done, was_asked)
}

/// The guard of what is being set up on this thread, where there is one.
pub(crate) fn guard_here(builder: ClientBuilder) -> ClientBuilder {
    HERE.with_borrow_mut(|(egress, was_asked)| match egress {
        Some(egress) => {
            *was_asked = true;
            egress.guard(builder)
        }
        None => builder,
    })
}

/// Resolves through the system and hands on what may be reached: the connection goes to one of these addresses.
struct Guard(Egress);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        let work: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            match egress.resolve(name.as_str()).await {
                Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
                Err(error) => Err(Box::new(error) as Box<dyn std::error::Error + Send + Sync>),
            }
        });
        work
    }
}

fn parse_allowed(entry: &str) -> Option<Allowed> {
    if let Some((address, bits)) = entry.split_once('/') {
        let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= most).then_some(Allowed::Network(address, bits));
    }
    if let Ok(address) = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(Allowed::Network(address, if address.is_ipv4() { 32 } else { 128 }));
    }
    let (name, is_suffix) = entry.strip_prefix('*').map_or((entry, false), |suffix| (suffix, true));
    let plain = name.strip_prefix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = !plain.is_empty() && plain.bytes().all(fits) && !plain.starts_with('.');
    match (is_suffix, name.starts_with('.')) {
        (true, true) if is_name => Some(Allowed::Below(name.to_lowercase())),
        (false, false) if is_name => Some(Allowed::Host(name.trim_end_matches('.').to_lowercase())),
        _ => None,
    }
}

/// Whether the address begins with the first `bits` of the network's.
fn is_within(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let shift = |width: u8| u32::from(width.saturating_sub(bits));
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differs = u32::from(network) ^ u32::from(address);
            differs.checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differs = u128::from(network) ^ u128::from(address);
            differs.checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Networks that are not the public internet (RFC 6890 and its registry at
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>), and those that clouds serve metadata at.
const NOT_PUBLIC_V4: [([u8; 4], u8); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
    // Azure's wire server, a public address that leads to the host.
    ([168, 63, 129, 16], 32),
];

/// Whether an address is one of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(network, bits): &([u8; 4], u8)| {
        is_within(IpAddr::V4(Ipv4Addr::from(*network)), *bits, IpAddr::V4(address))
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let last_four = |at: usize| {
        let octets = address.octets();
        let part = octets.get(at..at + 4).and_then(|part| <[u8; 4]>::try_from(part).ok());
        Ipv4Addr::from(part.unwrap_or_default())
    };
    match address.segments() {
        // An IPv4 address in another dress leads where that leads: mapped, by NAT64, by 6to4.
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(last_four(12)),
        [0x2002, ..] => is_public_v4(last_four(2)),
        // Teredo, ORCHID, documentation.
        [0x2001, 0 | 0x10..=0x2f | 0xdb8, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // The rest of 2000::/3 is all that is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow: &[&str]) -> Egress {
        Egress::parse(&allow.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn public_addresses_are_told_from_all_others() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_url_is_https_and_public_unless_it_is_allowed() {
        let none = Egress::default();
        assert_eq!(none.check("https://hooks.example.com/x"), Ok(()));
        assert_eq!(none.check("https://1.1.1.1:8443/x"), Ok(()));
        assert_eq!(
            none.check("http://hooks.example.com/x"),
            Err(EgressError::NotHttps("hooks.example.com".into()))
        );
        for bad in [
            "https://127.0.0.1/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://[::1]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::ffff:10.0.0.1]/",
            "https://10.0.0.1./",
        ] {
            assert!(
                matches!(none.check(bad), Err(EgressError::NotPublic { .. })),
                "{bad}: {:?}",
                none.check(bad)
            );
        }
        for bad in
            ["", "hooks.example.com", "ftp://hooks.example.com/", "file:///etc/passwd", "gopher://1.1.1.1/"]
        {
            assert_eq!(none.check(bad), Err(EgressError::NotAUrl), "{bad}");
        }
        assert_eq!(none.check("https://user:pass@hooks.example.com/"), Err(EgressError::Credentials));
        let some = egress(&["siem.internal", "*.corp.example", "10.0.0.0/8", "127.0.0.1", "fd00::/8"]);
        for good in [
            "http://siem.internal:8088/x",
            "https://siem.internal/",
            "http://a.b.corp.example/",
            "http://10.9.8.7/",
            "https://127.0.0.1/",
            "http://[fd00::1]/",
        ] {
            assert_eq!(some.check(good), Ok(()), "{good}");
        }
        for bad in [
            "http://other.internal/",
            "http://corp.example/",
            "https://11.0.0.1.evil/x",
            "https://127.0.0.2/",
        ] {
            let checked = some.check(bad);
            assert_eq!(checked.is_ok(), bad.contains("evil"), "{bad}: {checked:?}");
        }
    }

    #[test]
    fn of_a_names_addresses_only_those_that_may_be_reached_are_used() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let found = ["10.0.0.1", "1.1.1.1", "::1"].map(address);
        let none = Egress::default();
        assert_eq!(none.choose("rebound.example", found.into_iter()), Ok(vec![address("1.1.1.1")]));
        let private = [address("10.0.0.1")];
        assert!(matches!(
            none.choose("rebound.example", private.into_iter()),
            Err(EgressError::NotPublic { .. })
        ));
        assert_eq!(egress(&["10.0.0.0/24"]).choose("x", private.into_iter()), Ok(private.to_vec()));
        assert_eq!(egress(&["x"]).choose("x", private.into_iter()), Ok(private.to_vec()));
        assert!(egress(&["10.0.1.0/24"]).choose("x", private.into_iter()).is_err());
    }

    #[test]
    fn entries_that_are_none_are_named() {
        let entries = ["", "a b", "10.0.0.0/33", "*", "*x", ".x", "http://x", "::/129", "ok.example"];
        let problems = Egress::parse(&entries.map(str::to_owned)).unwrap_err();
        assert_eq!(problems.len(), 8, "{problems:?}");
        assert_eq!(problems[2].path, "egress.allow[2]");
    }

    #[tokio::test]
    async fn a_guarded_client_does_not_connect_to_this_machine_by_name() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Egress::default().guard(reqwest::Client::builder()).build().unwrap();
        let error = client.get(format!("http://localhost:{port}/")).send().await.unwrap_err();
        let mut causes = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(one) = cause {
            causes.push_str(&one.to_string());
            cause = one.source();
        }
        assert!(causes.contains("not public"), "{causes}");
        let allowed = egress(&["localhost"]).guard(reqwest::Client::builder()).build().unwrap();
        let asked = tokio::select! {
            accepted = listener.accept() => accepted.is_ok(),
            answer = allowed.get(format!("http://localhost:{port}/")).send() => panic!("{answer:?}"),
        };
        assert!(asked);
    }
}
