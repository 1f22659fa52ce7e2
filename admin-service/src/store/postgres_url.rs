//! The URL of a PostgreSQL database, in libpq's syntax: several hosts, IPv6 literals, sockets. It is read here and not by the
//! driver, which knows one host, and whose messages may show a part of a password.

use std::fmt;

use super::url::InvalidDatabaseUrl;

/// Parameters that the driver is given as they are.
const FOR_THE_DRIVER: [&str; 9] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
];
/// Where there is nothing to choose: the service only uses servers that take writes, so that any of them finds one.
const FITTING_SERVERS: [&str; 4] = ["any", "read-write", "primary", "prefer-standby"];

/// A PostgreSQL database. `Debug` and `Display` show neither user nor password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PostgresUrl {
    pub user: Option<String>,
    password: Option<String>,
    /// Never empty.
    pub hosts: Vec<Host>,
    pub database: Option<String>,
    parameters: Vec<(String, String)>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// A name, an address, or the folder of a socket; `None`: the driver's own.
    pub name: Option<String>,
    pub port: Option<u16>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.unwrap_or(5432);
        match self.name.as_deref() {
            None => write!(f, "localhost:{port}"),
            Some(folder) if folder.starts_with('/') => write!(f, "{folder}:{port}"),
            Some(address) if address.contains(':') => write!(f, "[{address}]:{port}"),
            Some(name) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database.as_deref().unwrap_or_default();
        write!(f, "postgres://{}/{database}", self.servers())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl PostgresUrl {
    /// Reads what follows `postgres://`.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let invalid = InvalidDatabaseUrl::Postgres;
        let end = text.find(['/', '?', '#']).unwrap_or(text.len());
        let (authority, rest) = text.split_at(end);
        // A password with one of these in it ends the part before the host too early.
        if rest.contains(['@', '#']) {
            return Err(InvalidDatabaseUrl::NotEncoded);
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let (user, password) =
            user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        let database = decoded(path.trim_start_matches('/'))?;
        let mut url = Self {
            user: Some(decoded(user)?).filter(|user| !user.is_empty()),
            password: password.map(decoded).transpose()?,
            hosts: hosts.split(',').map(host).collect::<Result<_, _>>()?,
            database: Some(database).filter(|name| !name.is_empty()),
            parameters: Vec::new(),
        };
        let (mut names, mut ports) = (None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*key {
                "user" => url.user = Some(value),
                "password" => url.password = Some(value),
                "dbname" => url.database = Some(value),
                "host" | "hostaddr" => names = Some(value),
                "port" => ports = Some(value),
                "target_session_attrs" if FITTING_SERVERS.contains(&&*value) => {}
                "target_session_attrs" => return Err(InvalidDatabaseUrl::SessionAttributes),
                key if FOR_THE_DRIVER.contains(&key) || key.starts_with("options[") => {
                    url.parameters.push((key.to_owned(), value));
                }
                // libpq has many more, and none of them is needed to reach a server.
                _ => {}
            }
        }
        url.relocate(names, ports).ok_or(invalid)?;
        Ok(url)
    }

    /// Takes hosts and ports from the parameters, where they are there.
    fn relocate(&mut self, names: Option<String>, ports: Option<String>) -> Option<()> {
        if let Some(names) = names {
            let port = self.hosts.first().and_then(|host| host.port);
            self.hosts = names.split(',').map(|name| Host { name: Some(name.to_owned()), port }).collect();
        }
        let Some(ports) = ports else { return Some(()) };
        let ports = ports.split(',').map(|port| port.parse().ok()).collect::<Option<Vec<u16>>>()?;
        if ports.len() != 1 && ports.len() != self.hosts.len() {
            return None;
        }
        for (host, port) in self.hosts.iter_mut().zip(ports.iter().cycle()) {
            host.port = Some(*port);
        }
        Some(())
    }

    /// The hosts with their ports.
    pub(super) fn servers(&self) -> String {
        self.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// One of the hosts as the driver wants it named. Everything is a parameter, for that is what it reads with no exception.
    pub(super) fn for_driver(&self, host: &Host) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let port = host.port.map(|port| port.to_string());
        let named = [
            ("user", &self.user),
            ("password", &self.password),
            ("dbname", &self.database),
            ("host", &host.name),
            ("port", &port),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        query.extend_pairs(&self.parameters);
        format!("postgres://?{}", query.finish())
    }
}

/// Reads `name`, `name:port`, `[address]:port` or a socket's folder with its slashes encoded.
fn host(text: &str) -> Result<Host, InvalidDatabaseUrl> {
    let invalid = InvalidDatabaseUrl::Postgres;
    let (name, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, port) = text.split_once(']').ok_or(invalid)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid)?;
            (address.to_owned(), port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or(invalid)?)
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, ""));
            (decoded(name)?, port)
        }
    };
    let port = if port.is_empty() { None } else { Some(port.parse().map_err(|_| invalid)?) };
    Ok(Host { name: Some(name).filter(|name| !name.is_empty()), port })
}

/// Decodes `%40` and the like.
fn decoded(text: &str) -> Result<String, InvalidDatabaseUrl> {
    let invalid = InvalidDatabaseUrl::Postgres;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or(invalid)?, rest.next().ok_or(invalid)?];
        let mut decoded = [0];
        hex::decode_to_slice(digits, &mut decoded).map_err(|_| invalid)?;
        bytes.extend(decoded);
    }
    String::from_utf8(bytes).map_err(|_| invalid)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn parse(text: &str) -> PostgresUrl {
        PostgresUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn several_hosts_are_read_each_with_its_port() {
        for (text, servers) in [
            ("u:p@h1:5432,h2:5433/db", "h1:5432,h2:5433"),
            ("u@h1,h2/db", "h1:5432,h2:5432"),
            ("u@[::1]:6432,[fd00::2]/db?sslmode=disable", "[::1]:6432,[fd00::2]:5432"),
            ("/db?host=h1,h2&port=1,2", "h1:1,h2:2"),
            ("u@localhost/db?host=/run/a,/run/b&port=7", "/run/a:7,/run/b:7"),
            ("u@%2Frun%2Fpostgresql/db", "/run/postgresql:5432"),
            ("u@h1,h2/db?target_session_attrs=read-write", "h1:5432,h2:5432"),
        ] {
            assert_eq!(parse(text).servers(), servers, "{text}");
        }
    }

    #[test]
    fn the_driver_is_told_what_the_url_says() {
        let url = parse("us%40er:p%3Fa%23s%2Fs%25@[::1]:6432/d%20b?application_name=a%26b&connect_timeout=3");
        let options = PgConnectOptions::from_str(&url.for_driver(&url.hosts[0])).unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("::1", 6432));
        assert_eq!((options.get_username(), options.get_database()), ("us@er", Some("d b")));
        assert_eq!(options.get_application_name(), Some("a&b"));
        assert!(url.for_driver(&url.hosts[0]).contains("password=p%3Fa%23s%2Fs%25"));
        let socket = parse("u@localhost/db?host=/run/postgresql");
        let options = PgConnectOptions::from_str(&socket.for_driver(&socket.hosts[0])).unwrap();
        assert_eq!(options.get_socket().map(|path| path.to_str().unwrap()), Some("/run/postgresql"));
    }

    #[test]
    fn a_password_that_is_not_encoded_is_never_shown() {
        for text in
            ["u:hun?ter2@h/db", "u:hun#ter2@h/db", "u:hun/ter2@h/db", "u:1?ter2@h/db", "u:hun@ter2/@h/db"]
        {
            let error = PostgresUrl::parse(text).unwrap_err();
            assert_eq!(error, InvalidDatabaseUrl::NotEncoded, "{text}");
            assert!(error.to_string().contains("%3F") && !error.to_string().contains("hun"), "{error}");
        }
        let url = parse("u:hun@ter2@h/db?password2=hunter2");
        assert_eq!(format!("{url} {url:?}"), "postgres://h:5432/db PostgresUrl(postgres://h:5432/db)");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in ["u@h:port/db", "u@[::1/db", "u@[x]/db", "u@[::1]x/db", "u%4@h/db", "h1,h2/db?port=1,2,3"]
        {
            assert_eq!(PostgresUrl::parse(text), Err(InvalidDatabaseUrl::Postgres), "{text}");
        }
        assert_eq!(
            PostgresUrl::parse("h/db?target_session_attrs=standby"),
            Err(InvalidDatabaseUrl::SessionAttributes)
        );
    }
}
