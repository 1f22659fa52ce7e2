//! Requests written byte by byte, for what no HTTP client would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// Opens a connection to a loopback port.
pub async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.expect("a connection to the gateway")
}

/// Sends bytes and reads until the other side closes; so HTTP/1.1 requests should say `connection: close`.
pub async fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(port).await;
    stream.write_all(request).await.expect("the request is sent");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset after the answer is an end as good as any.
    read.expect("an answer, and then the end of the connection").ok();
    answer
}

/// Sends one request and reads one answer whose length is told, or what came until the other side closed. Envoy may take
/// a second to close a connection whose request it refused, which tests of many requests need not wait for.
pub async fn answer(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(port).await;
    stream.write_all(request).await.expect("the request is sent");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, async {
        while !is_whole(&answer) && matches!(stream.read_buf(&mut answer).await, Ok(1..)) {}
    });
    read.await.unwrap_or_else(|_| {
        panic!("no whole answer to {}: {}", request.escape_ascii(), answer.escape_ascii())
    });
    answer
}

/// Whether an answer has all of its head, and a body as long as its head says.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| answer.len() >= end + 4 + length)
}

/// The status of an HTTP/1.x answer; `None` if it is none.
pub fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

/// A GET of `path` with one raw `Authorization` value, closing the connection after it.
pub fn get_with_authorization(path: &str, value: &[u8]) -> Vec<u8> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nauthorization: ");
    [head.as_bytes(), value, b"\r\n\r\n"].concat()
}

/// Reads until the answer ends with these bytes; panics with what came instead.
pub async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(matches!(read, Ok(Ok(1..))), "waited in vain for {}; so far: {text}", end.escape_ascii());
    }
    answer
}

/// A text with `\n` for the end of a line, as bytes of HTTP/1.
pub fn lines(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}
