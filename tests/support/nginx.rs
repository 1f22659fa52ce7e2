//! nginx as an ordinary process of the test's own, with a folder for all that it writes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::client::Caller;
use super::config_file::ConfigFile;
use super::envoy_config::EDGE_SECRET;
use super::process::Process;
use super::service::Service;
use super::{ports, test_dir, wait};

/// A running nginx.
pub struct Nginx {
    port: u16,
    process: Process,
    /// The file that hands it the edge secret.
    secret: PathBuf,
}

impl Drop for Nginx {
    /// What a test leaves behind is searched for secrets, and this one was put there.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.secret);
    }
}

impl Nginx {
    /// Starts `gateways/nginx.conf` on loopback, and waits until it takes connections.
    pub async fn start(service: &Service, upstream: SocketAddr) -> Self {
        let folder = test_dir::file("nginx", "d");
        std::fs::create_dir_all(&folder).expect("a folder for nginx");
        let (port, secret) = (ports::free(), folder.join("edge-secret.conf"));
        std::fs::write(&secret, format!("proxy_set_header x-latchkey-edge-secret {EDGE_SECRET};\n"))
            .expect("the secret is written");
        let mut file = ConfigFile::read("gateways/nginx.conf");
        file.replace("0.0.0.0:10000", &format!("127.0.0.1:{port}"));
        file.replace("latchkey:8101", &service.edge_address().to_string());
        file.replace("upstream:8080", &upstream.to_string());
        file.replace("/etc/nginx/latchkey-edge-secret.conf", &secret.display().to_string());
        file.replace("/run/nginx-latchkey.pid", &folder.join("pid").display().to_string());
        // Where the package keeps what it buffers, only the machine's own nginx may write.
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths = kinds.map(|kind| format!("    {kind}_temp_path {};\n", folder.join(kind).display()));
        file.replace("http {\n", &format!("http {{\n{}", paths.concat()));
        let config = folder.join("nginx.conf");
        std::fs::write(&config, &file.text).expect("nginx's configuration is written");
        let mut command = Command::new(program());
        command.arg("-p").arg(&folder).arg("-c").arg(&config).args(["-e", "stderr"]);
        // The process that was started is the one that answers, and ends at once with the test.
        command.args(["-g", "daemon off; master_process off;"]);
        let process = Process::start("nginx", &mut command, &test_dir::file("nginx", "log"));
        let mut nginx = Self { port, process, secret };
        wait::until("nginx takes connections", async || {
            nginx.process.assert_running();
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await;
        nginx
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn http1(&self) -> Caller {
        Caller::http1(&format!("http://127.0.0.1:{}", self.port))
    }
}

/// The program, which packages put where only root looks.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut programs = folders.map(|folder| folder.join("nginx"));
    programs.find(|program| program.is_file()).expect(
        "nginx is not found: install the package \"nginx-light\" (Debian, Ubuntu) or \"nginx\" (Fedora); no server of the \
         machine's need run",
    )
}
