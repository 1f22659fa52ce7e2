//! A stand-in for the service's edge listener, for failures that the real one cannot be made to show.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use latchkey::wire::VERIFY_PATH;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the stand-in does with a question.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// 200 with this JSON.
    Json(Value),
    /// These bytes, which are a whole answer; then the next question on the same connection.
    Answer(Vec<u8>),
    /// These bytes, whatever they are, and then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and then a reset of the connection.
    RawThenReset(Vec<u8>),
    /// These bytes (none, for instance), and then nothing, with the connection left open.
    RawThenHang(Vec<u8>),
}

type Choose = dyn Fn(&Value) -> Behaviour + Send + Sync;

/// A running stand-in; HTTP/1.1 only. It knows nothing of changes.
pub struct FakeService {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<Value>>>,
    serving: JoinHandle<()>,
}

impl FakeService {
    /// Answers every question by what `choose` makes of its body.
    pub async fn start(choose: impl Fn(&Value) -> Behaviour + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the stand-in");
        let address = listener.local_addr().expect("the stand-in's address");
        let questions = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, Arc::clone(&questions), Arc::new(choose)));
        Self { address, questions, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bodies of all questions so far.
    pub fn questions(&self) -> Vec<Value> {
        self.questions.lock().expect("the list of questions").clone()
    }
}

impl Drop for FakeService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, questions: Arc<Mutex<Vec<Value>>>, choose: Arc<Choose>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // The set ends what it holds when the stand-in is dropped.
        connections.spawn(converse(stream, Arc::clone(&questions), Arc::clone(&choose)));
    }
}

async fn converse(
    mut stream: TcpStream,
    questions: Arc<Mutex<Vec<Value>>>,
    choose: Arc<Choose>,
) -> io::Result<()> {
    loop {
        let Some(question) = read_question(&mut stream).await? else {
            stream.write_all(&answer("404 Not Found", "", "")).await?;
            continue;
        };
        questions.lock().expect("the list of questions").push(question.clone());
        match choose(&question) {
            Behaviour::Json(answer) => stream.write_all(&json_answer(&answer)).await?,
            Behaviour::Answer(bytes) => stream.write_all(&bytes).await?,
            Behaviour::Raw(bytes) => return stream.write_all(&bytes).await,
            Behaviour::RawThenReset(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.set_zero_linger();
            }
            Behaviour::RawThenHang(bytes) => {
                stream.write_all(&bytes).await?;
                return std::future::pending().await;
            }
        }
    }
}

/// 200 with a JSON body, as bytes of HTTP/1.1.
pub fn json_answer(body: &Value) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", &body.to_string())
}

/// An answer as bytes of HTTP/1.1; each line of `headers` ends in CRLF.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// What the service would say to a question about a token of alice's that is good for everything.
pub fn good_verdict(question: &Value) -> Value {
    json!({
        "epoch": "stand-in", "revision": 1, "token_hash": question["token_hash"],
        "token": {
            "id": "0190c000-0000-7000-8000-000000000001", "name": "test", "user": "alice",
            "schemes": ["bearer", "basic"], "scopes": [], "allowed_cidrs": [], "expires_in_ms": null,
        },
    })
}

/// Reads one request and gives its body as JSON (null if it is none). `None`: it is no question about a token.
async fn read_question(stream: &mut TcpStream) -> io::Result<Option<Value>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let body = end + 4..end + 4 + length.unwrap_or(0);
            if bytes.len() >= body.end {
                let question = || serde_json::from_slice(&bytes[body]).unwrap_or_default();
                return Ok(head.starts_with(&format!("post {VERIFY_PATH} ")).then(question));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
