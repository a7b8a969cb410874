//! A model hub on loopback that behaves as its test asks. Bounded: so many connections, so many seconds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most connections that a server takes.
const MAX_CONNECTIONS: usize = 300;
/// Longest time that a connection may wait for its peer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| &**value)
    }

    /// The first byte of `Range: bytes=N-`.
    pub fn start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As HTTP wants it.
    Whole,
    /// The connection is closed after so many bytes of the body.
    CloseAfter(usize),
    /// The connection is reset after so many bytes of the body.
    ResetAfter(usize),
    /// Bytes come one by one with this pause, until the client goes away.
    Drip(Duration),
    /// Nothing comes at all for so long.
    Silence(Duration),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

impl Reply {
    /// An answer with its `Content-Length`.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        let body = body.into();
        let length = ("content-length".to_owned(), body.len().to_string());
        Reply { status, headers: vec![length], body, ending: Ending::Whole }
    }

    /// A redirection.
    pub fn redirect(location: impl Into<String>) -> Reply {
        Reply::new(302, "").header("location", location)
    }

    /// Sets a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &str) -> Reply {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    /// Ends otherwise.
    pub fn ending(mut self, ending: Ending) -> Reply {
        self.ending = ending;
        self
    }
}

/// Answers a request, given how often its path was asked before.
type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to answer on a free port.
    pub fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (log, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let shared: (Arc<Mutex<Vec<Request>>>, Arc<AtomicBool>) = (Arc::clone(&log), Arc::clone(&stop));
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = std::thread::spawn(move || serve(&listener, &handler, &shared.0, &shared.1));
        Server { address, log, stop, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests for paths that contain `part`.
    pub fn asked(&self, part: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.contains(part)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, handler: &Arc<Handler>, log: &Arc<Mutex<Vec<Request>>>, stop: &AtomicBool) {
    for stream in listener.incoming().take(MAX_CONNECTIONS) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (handler, log) = (Arc::clone(handler), Arc::clone(log));
        // A client that goes away early is what many tests are about.
        std::thread::spawn(move || drop(answer(stream, &*handler, &log)));
    }
}

fn answer(mut stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // All but the last byte: a connection that is closed with unread bytes is reset.
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r") && head.len() < 64 << 10 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let request = parse(&String::from_utf8_lossy(&head));
    let before = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(request.clone());
        log.iter().filter(|r| r.path == request.path).count() - 1
    };
    let reply = handler(&request, before);
    if !matches!(reply.ending, Ending::ResetAfter(_)) {
        stream.read_exact(&mut byte)?;
    }
    send(&mut stream, &reply)
}

fn parse(head: &str) -> Request {
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let header = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    Request { path, headers: lines.filter_map(header).collect() }
}

fn send(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    if let Ending::Silence(time) = reply.ending {
        std::thread::sleep(time.min(PATIENCE));
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} Test\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    match reply.ending {
        Ending::CloseAfter(n) | Ending::ResetAfter(n) => stream.write_all(&reply.body[..n.min(reply.body.len())])?,
        Ending::Drip(pause) => {
            for byte in &reply.body {
                stream.write_all(&[*byte])?;
                std::thread::sleep(pause);
            }
        }
        _ => stream.write_all(&reply.body)?,
    }
    if matches!(reply.ending, Ending::ResetAfter(_)) {
        // What was written must arrive before the reset overtakes it.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
