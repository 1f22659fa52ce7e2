//! HTTP/2 as an attacker speaks it, frame by frame (RFC 9113): it opens as many streams as it likes, whatever it is told, and takes
//! nothing of any answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::wait_for;

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection.
pub struct Attacker {
    writer: Arc<Mutex<TcpStream>>,
    seen: Arc<Mutex<Seen>>,
    next_stream: u32,
    pings: usize,
}

/// What came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Heads of answers.
    pub answers: usize,
    /// Streams that were reset.
    pub resets: usize,
    /// Answers to pings.
    pongs: usize,
    /// The service has hung up.
    pub closed: bool,
}

impl Attacker {
    /// Connects, and says that no byte of any answer will be taken: SETTINGS_INITIAL_WINDOW_SIZE is 0.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let seen = Arc::<Mutex<Seen>>::default();
        let mut attacker = Self { writer: writer.clone(), seen: seen.clone(), next_stream: 1, pings: 0 };
        attacker.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        attacker.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        std::thread::spawn(move || {
            while read_frame(&stream, &writer, &seen).is_ok() {}
            seen.lock().unwrap().closed = true;
        });
        attacker
    }

    /// Begins requests that are alike: complete ones, or such whose bodies never come.
    pub fn request(
        &mut self,
        number: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        complete: bool,
    ) {
        let pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x")];
        let block: Vec<u8> = pseudo.iter().chain(headers).flat_map(|field| literal(*field)).collect();
        let flags = END_HEADERS | if complete { END_STREAM } else { 0 };
        let mut frames = Vec::new();
        for _ in 0..number {
            frames.extend(frame(HEADERS, flags, self.next_stream, &block));
            self.next_stream += 2;
        }
        self.send(&frames);
    }

    /// Waits until the service has read all that was sent.
    pub fn wait_until_read(&mut self) {
        self.pings += 1;
        self.send(&frame(PING, 0, 0, &[0; 8]));
        let pings = self.pings;
        self.wait_for("a ping's answer", |seen| seen.pongs >= pings);
    }

    /// Waits for something to come, or the end.
    pub fn wait_for(&self, what: &str, condition: impl Fn(Seen) -> bool) {
        wait_for(what, || {
            let seen = self.seen();
            seen.closed || condition(seen)
        });
    }

    pub fn seen(&self) -> Seen {
        *self.seen.lock().unwrap()
    }

    fn send(&mut self, bytes: &[u8]) {
        // Where the service has hung up, there is nothing more to do.
        let _ = self.writer.lock().unwrap().write_all(bytes);
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.writer.lock().unwrap().shutdown(std::net::Shutdown::Both);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field as HPACK writes it that is not to be remembered (RFC 7541 section 6.2.2), without Huffman's code.
fn literal((name, value): (&str, &str)) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127, "longer texts have a longer length");
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text.as_bytes());
    }
    field
}

fn read_frame(mut stream: &TcpStream, writer: &Mutex<TcpStream>, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload)?;
    let answer = match (head[3], head[4] & ACK) {
        (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
        (PING, 0) => frame(PING, ACK, 0, &payload),
        (kind, _) => {
            let mut seen = seen.lock().map_err(|_| ErrorKind::Other)?;
            match kind {
                HEADERS => seen.answers += 1,
                RESET => seen.resets += 1,
                PING => seen.pongs += 1,
                _ => {}
            }
            return Ok(());
        }
    };
    writer.lock().map_err(|_| ErrorKind::Other)?.write_all(&answer)
}
