//! HTTP/2 written frame by frame (RFC 9113), for requests that no HTTP/2 client would send: any method, path and authority.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::raw;
use super::wait::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// No header of a response is remembered, so that each can be read by itself (RFC 7541 §4.2).
const NO_TABLE: [u8; 6] = [0, 1, 0, 0, 0, 0];

/// A response: its status and its body.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A connection for one request at a time; it is opened again where the other side ended it.
pub struct Http2 {
    port: u16,
    connection: Option<(TcpStream, u32)>,
}

impl Http2 {
    pub fn to(port: u16) -> Self {
        Self { port, connection: None }
    }

    /// Sends a request without a body, its pseudo-headers first, and reads the response; `None` if the stream or the
    /// connection is ended instead.
    pub async fn send(&mut self, fields: &[(&str, &str)]) -> Option<Response> {
        let used = self.connection.is_some();
        match self.attempt(fields).await {
            // It may have been ended for an earlier request.
            Read::Closed if used => self.attempt(fields).await.response(),
            read => read.response(),
        }
    }

    async fn attempt(&mut self, fields: &[(&str, &str)]) -> Read {
        let (mut stream, id) = match self.connection.take() {
            Some((stream, last)) => (stream, last + 2),
            None => (self.open().await, 1),
        };
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        if write(&mut stream, HEADERS, END_STREAM | END_HEADERS, id, &block).await.is_none() {
            return Read::Closed;
        }
        let read = timeout(PATIENCE, read_response(&mut stream, id)).await;
        let read = read.unwrap_or_else(|_| panic!("no response over HTTP/2 to {fields:?}"));
        if !matches!(read, Read::Closed) {
            self.connection = Some((stream, id));
        }
        read
    }

    async fn open(&self) -> TcpStream {
        let mut stream = raw::connect(self.port).await;
        stream.set_nodelay(true).expect("a socket's option");
        stream.write_all(PREFACE).await.expect("a preface is sent");
        write(&mut stream, SETTINGS, 0, 0, &NO_TABLE).await.expect("settings are sent");
        stream
    }
}

/// How a stream ended.
enum Read {
    Whole(Response),
    Reset,
    Closed,
}

impl Read {
    fn response(self) -> Option<Response> {
        if let Self::Whole(response) = self { Some(response) } else { None }
    }
}

/// Reads until the stream ends, in whichever way.
async fn read_response(stream: &mut TcpStream, id: u32) -> Read {
    let mut response = Response::default();
    loop {
        let Some(frame) = read(stream).await else { return Read::Closed };
        match frame.kind {
            SETTINGS | PING if frame.flags & ACK == 0 => {
                let payload = if frame.kind == PING { frame.payload.as_slice() } else { &[] };
                if write(stream, frame.kind, ACK, 0, payload).await.is_none() {
                    return Read::Closed;
                }
            }
            GOAWAY => return Read::Closed,
            RST_STREAM if frame.stream == id => return Read::Reset,
            HEADERS if frame.stream == id && response.status == 0 => response.status = status(&frame.payload),
            DATA if frame.stream == id => {
                let taken = u32::try_from(frame.payload.len()).expect("a short frame").to_be_bytes();
                response.body.extend(&frame.payload);
                if !frame.payload.is_empty() && write(stream, WINDOW_UPDATE, 0, 0, &taken).await.is_none() {
                    return Read::Closed;
                }
            }
            _ => continue,
        }
        if frame.stream == id && frame.flags & END_STREAM != 0 {
            return Read::Whole(response);
        }
    }
}

async fn write(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Option<()> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    stream.write_all(&[head.as_slice(), payload].concat()).await.ok()
}

async fn read(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("a short frame")];
    stream.read_exact(&mut payload).await.ok()?;
    let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream: id, payload })
}

/// A header field as a literal that is not remembered, not compressed (RFC 7541 §6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        integer(&mut field, text.len());
        field.extend(text.as_bytes());
    }
    field
}

/// A length with a prefix of 7 bits (RFC 7541 §5.1).
fn integer(field: &mut Vec<u8>, value: usize) {
    let byte = |value: usize| u8::try_from(value).expect("7 bits");
    if value < 127 {
        return field.push(byte(value));
    }
    field.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        field.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    field.push(byte(rest));
}

/// The status, which is the first field of a response's header block.
fn status(block: &[u8]) -> u16 {
    let mut block: VecDeque<u8> = block.iter().copied().collect();
    // Changes of the table's size may come before it (§6.3).
    while block.front().is_some_and(|byte| byte & 0xe0 == 0x20) {
        block.pop_front();
    }
    let first = block.pop_front().expect("a header field");
    if first & 0x80 != 0 {
        // An indexed field of the static table (Appendix A).
        return [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)];
    }
    let length = block.pop_front().expect("a value's length");
    let value: Vec<u8> = block.into_iter().take(usize::from(length & 0x7f)).collect();
    let digits = if length & 0x80 == 0 { value } else { decompressed(&value) };
    String::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).expect("a status")
}

/// Three digits in the Huffman code (Appendix B): `0` to `2` have 5 bits, the others 6.
fn decompressed(value: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> =
        value.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1)).collect();
    let number =
        |from: usize, length: usize| bits[from..from + length].iter().fold(0, |sum, bit| sum * 2 + bit);
    let (mut digits, mut at) = (Vec::new(), 0);
    while digits.len() < 3 {
        let short = number(at, 5);
        if short <= 2 {
            digits.push(b'0' + short);
            at += 5;
        } else {
            digits.push(b'0' + number(at, 6) - 0x16);
            at += 6;
        }
    }
    digits
}
