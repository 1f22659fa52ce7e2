//! Clients that take next to no CPU time themselves: keep-alive connections, and requests that are written out beforehand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One connection, with at most one request under way.
pub struct KeepAlive {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl KeepAlive {
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket's option");
        Self { stream, answer: Vec::with_capacity(4096) }
    }

    /// Sends a request, reads the whole answer, and gives its status.
    pub async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("the request is sent");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.expect("an answer");
            assert!(read > 0, "the connection ended within an answer: {}", self.answer.escape_ascii());
            if is_whole(&self.answer) {
                let status =
                    self.answer.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
                return status.expect("a status");
            }
        }
    }
}

/// Whether all of an answer is there, whose head tells its length in Envoy's spelling.
fn is_whole(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|window| window == what);
    let Some(end) = find(answer, b"\r\n\r\n") else { return false };
    let Some(at) = find(&answer[..end], LENGTH) else { return true };
    let digits = answer[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    answer.len() >= end + 4 + length
}

/// A GET with a token.
pub fn get(token: &str) -> Vec<u8> {
    format!("GET /orders HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// Asks with each of the tokens once, over so many connections, and gives how many were answered by this status.
pub async fn ask_each(port: u16, tokens: Arc<[String]>, connections: usize, status: u16) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (tokens, next, mut client) = (tokens.clone(), next.clone(), KeepAlive::open(port).await);
        clients.spawn(async move {
            let mut answered = 0;
            while let Some(token) = tokens.get(next.fetch_add(1, Ordering::Relaxed)) {
                answered += usize::from(client.ask(&get(token)).await == status);
            }
            answered
        });
    }
    clients.join_all().await.into_iter().sum()
}
