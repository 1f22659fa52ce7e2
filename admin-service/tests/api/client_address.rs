//! Behind a proxy the service goes by its client's address, for networks, failed attempts and the audit log: with a real nginx.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use latchkey_admin::attempts::MOST as MOST_FAILED;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, TestService};

const UNKNOWN: &str = "lk_0000000000000000000000000000000000000000000000000";
/// Loopback addresses that stand for machines: all of 127.0.0.0/8 can be called from.
const OFFICE: &str = "127.1.0.1";
const ELSEWHERE: &str = "127.2.0.1";

/// nginx before the management API, as the README has it.
struct Proxy {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    async fn before(service: &TestService) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = folder.path().display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {place}/{kind};\n"))
            .concat();
        let config = format!(
            "error_log stderr warn;\npid {place}/pid;\nevents {{}}\nhttp {{\n    access_log off;\n{paths}\
             server {{ listen {address}; location / {{\n\
             proxy_pass http://{};\n\
             proxy_set_header Host $http_host;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}} }} }}\n",
            service.addresses.api
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(nginx());
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
        command.args(["-g", "daemon off; master_process off;"]).stdin(Stdio::null());
        let mut proxy = Self { address, child: command.spawn().unwrap(), _folder: folder };
        let ready = tokio::time::timeout(Duration::from_secs(60), async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                assert_eq!(proxy.child.try_wait().unwrap(), None, "nginx has ended");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        ready.await.expect("nginx does not take connections");
        proxy
    }

    /// A request that comes from an address.
    fn request(&self, from: &str, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        let from: IpAddr = from.parse().unwrap();
        let client = reqwest::Client::builder().local_address(from).build().unwrap();
        client.request(method, format!("http://{}/api/v1{path}", self.address)).bearer_auth(token)
    }

    async fn get(&self, from: &str, path: &str, token: &str) -> Answer {
        Answer::to(self.request(from, Method::GET, path, token)).await
    }
}

/// The program, which packages put where only root looks.
fn nginx() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut programs = folders.map(|folder| folder.join("nginx"));
    programs
        .find(|program| program.is_file())
        .expect("nginx is not found: install the package \"nginx-light\"")
}

async fn behind(proxies: &'static str) -> (TestService, Proxy) {
    let service = TestService::configured(|config| config.trusted_proxies = proxies.parse().unwrap()).await;
    let proxy = Proxy::before(&service).await;
    (service, proxy)
}

#[tokio::test]
async fn a_token_passes_from_its_own_networks_alone_whatever_the_client_claims() {
    let (service, proxy) = behind("127.0.0.1").await;
    service.make_user("alice").await;
    let bound = |networks: &str| json!({"name": networks, "allowed_cidrs": [networks]});
    let office = service.make_token("alice", bound("127.1.0.0/16")).await.token;
    let machine = service.make_token("alice", bound("127.0.0.0/16")).await.token;
    assert_eq!(proxy.get(OFFICE, "/me", &office).await.status, StatusCode::OK);
    for (from, token) in [(ELSEWHERE, &office), (ELSEWHERE, &machine), (OFFICE, &machine)] {
        for claimed in
            [None, Some("127.0.0.1"), Some(OFFICE), Some("127.0.0.1, 127.1.0.1"), Some("127.0.0.1,")]
        {
            let request = proxy.request(from, Method::GET, "/me", token);
            let request =
                claimed.into_iter().fold(request, |request, claim| request.header("x-forwarded-for", claim));
            // From the office the claim of the office is true, and its token is another one.
            let refused = Answer::to(request).await;
            let given = (refused.status, refused.code());
            assert_eq!(
                given,
                (StatusCode::FORBIDDEN, "address_not_permitted".to_owned()),
                "{from} {claimed:?}"
            );
        }
    }
    // Around the proxy nobody is believed.
    let direct =
        reqwest::Client::builder().local_address(ELSEWHERE.parse::<IpAddr>().unwrap()).build().unwrap();
    let direct = direct.get(format!("http://{}/api/v1/me", service.addresses.api)).bearer_auth(&office);
    let direct = Answer::to(direct.header("x-forwarded-for", OFFICE)).await;
    assert_eq!(direct.code(), "address_not_permitted");
}

#[tokio::test]
async fn one_attackers_failures_lock_nobody_else_out() {
    let (_service, proxy) = behind("127.0.0.0/16").await;
    for number in 0..MOST_FAILED {
        // What it writes into the header itself makes it no other.
        let claim = format!("192.0.2.{}", number % 250);
        let request = proxy.request(ELSEWHERE, Method::GET, "/me", UNKNOWN).header("x-forwarded-for", claim);
        Answer::to(request).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(proxy.get(ELSEWHERE, "/me", UNKNOWN).await.code(), "too_many_failures");
    assert_eq!(proxy.get(OFFICE, "/me", UNKNOWN).await.code(), "api_key_invalid");
}

#[tokio::test]
async fn the_audit_log_names_the_client_and_without_trust_the_proxy() {
    for (proxies, expected) in [("127.0.0.1", OFFICE), ("192.0.2.1", "127.0.0.1")] {
        let (service, proxy) = behind(proxies).await;
        service.clock.advance(Duration::from_secs(1));
        let create = proxy.request(OFFICE, Method::POST, "/users", &service.admin_token);
        Answer::to(create.json(&json!({"name": "alice"}))).await.expect(StatusCode::CREATED);
        let entry = service.admin().get("/audit?limit=1").await.json()["items"][0].clone();
        assert_eq!((&entry["action"], &entry["address"]), (&json!("user.created"), &json!(expected)));
    }
}

#[tokio::test]
async fn a_gateway_behind_a_trusted_proxy_names_the_client_before_that() {
    let service =
        TestService::configured(|config| config.trusted_proxies = "10.0.0.0/8".parse().unwrap()).await;
    service.make_user("alice").await;
    let bound = service.make_token("alice", json!({"name": "t", "allowed_cidrs": ["203.0.113.0/24"]})).await;
    for (forwarded, status) in [
        ("203.0.113.9", StatusCode::OK),
        ("203.0.113.9, 10.0.0.1", StatusCode::OK),
        ("203.0.113.9, 198.51.100.1", StatusCode::FORBIDDEN),
        ("203.0.113.9, unknown, 10.0.0.1", StatusCode::FORBIDDEN),
    ] {
        let request = service.edge().request(Method::GET, "/edge/v1/authz").bearer_auth(&bound.token);
        assert_eq!(
            Answer::to(request.header("x-forwarded-for", forwarded)).await.status,
            status,
            "{forwarded}"
        );
    }
}
