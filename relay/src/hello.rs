//! How two machines begin: each proves that it has the session's key, and the child says what it wants.
//!
//! | who | bytes | what |
//! |---|---|---|
//! | child | 8, 32 | `PITRELA1`, a random number |
//! | parent | 8, 32 | the same, its own |
//! | child | 32, 1, 8, n | its proof; 1 for a leaf; how many chunks the disk has; a bit for each that it wants |
//! | parent | 32 | its proof |
//!
//! A proof is the keyed BLAKE3 of who speaks, the image's digest, both numbers and the connection's binding. Neither side
//! shows the key, and a proof is worth nothing on another connection.

use crate::bitmap::{Bitmap, bytes_of};
use crate::link::{CONNECT, Link};
use std::io::{self, Write};
use std::time::{Duration, Instant};

const MAGIC: [u8; 8] = *b"PITRELA1";
/// The bitmap of a large disk on a slow line.
const WANTED: Duration = Duration::from_secs(10);

/// What proves that a machine belongs to a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

/// One session: an image and the key of those who restore it.
pub struct Session {
    pub key: Key,
    pub digest: blake3::Hash,
    /// Chunks of the disk.
    pub count: u64,
}

/// What a child wants.
pub struct Asked {
    pub wanted: Bitmap,
    /// Others go first.
    pub leaf: bool,
}

#[derive(Clone, Copy)]
enum Who {
    Child,
    Parent,
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    // Fails only where the kernel has no such call: then the numbers of two connections differ all the same.
    if getrandom(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    bytes
}

fn getrandom(bytes: &mut [u8]) -> io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

/// Beginnings of a connection, and what both sides know by then.
struct Begun {
    child: [u8; 32],
    parent: [u8; 32],
    binding: [u8; 32],
}

impl Session {
    fn proof(&self, who: Who, begun: &Begun) -> blake3::Hash {
        let word: &[u8] = match who {
            Who::Child => b"child",
            Who::Parent => b"parent",
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(word).update(self.digest.as_bytes());
        hasher.update(&begun.child).update(&begun.parent);
        hasher.update(&begun.binding).finalize()
    }

    /// The child's side.
    pub fn ask(&self, link: &mut Link, asked: &Asked) -> io::Result<()> {
        let child = random();
        link.write_all(&[&MAGIC[..], &child].concat())?;
        link.flush()?;
        let parent = number(link)?;
        let begun = Begun {
            child,
            parent,
            binding: link.binding()?,
        };
        link.write_all(self.proof(Who::Child, &begun).as_bytes())?;
        link.write_all(&[u8::from(asked.leaf)])?;
        link.write_all(&self.count.to_le_bytes())?;
        link.write_all(asked.wanted.as_bytes())?;
        link.flush()?;
        self.check(link, Who::Parent, &begun, WANTED)
    }

    /// The parent's side.
    pub fn answer(&self, link: &mut Link) -> io::Result<Asked> {
        let child = number(link)?;
        let parent = random();
        link.write_all(&[&MAGIC[..], &parent].concat())?;
        link.flush()?;
        let begun = Begun {
            child,
            parent,
            binding: link.binding()?,
        };
        self.check(link, Who::Child, &begun, CONNECT)?;
        let mut head = [0; 9];
        link.read_until(&mut head, Instant::now() + CONNECT)?;
        let [leaf, count @ ..] = head;
        if u64::from_le_bytes(count) != self.count || leaf > 1 {
            return Err(refused("a disk of another size"));
        }
        let mut wanted = vec![0; bytes_of(self.count)];
        link.read_until(&mut wanted, Instant::now() + WANTED)?;
        let wanted = Bitmap::from_bytes(self.count, wanted);
        let wanted = wanted.ok_or_else(|| refused("chunks that the disk does not have"))?;
        link.write_all(self.proof(Who::Parent, &begun).as_bytes())?;
        link.flush()?;
        Ok(Asked {
            wanted,
            leaf: leaf == 1,
        })
    }

    fn check(&self, link: &mut Link, who: Who, begun: &Begun, most: Duration) -> io::Result<()> {
        let mut proof = [0; 32];
        link.read_until(&mut proof, Instant::now() + most)?;
        // Hashes are compared in constant time.
        if blake3::Hash::from(proof) == self.proof(who, begun) {
            Ok(())
        } else {
            Err(refused("a machine that does not have the session's key"))
        }
    }
}

fn number(link: &mut Link) -> io::Result<[u8; 32]> {
    let mut bytes = [0; 40];
    link.read_until(&mut bytes, Instant::now() + CONNECT)?;
    let (magic, number) = bytes.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(refused("something that is no relay"));
    }
    number.try_into().map_err(|_| refused("half a number"))
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Tls;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    fn session(key: u8) -> Session {
        Session {
            key: Key([key; 32]),
            digest: blake3::hash(b"image"),
            count: 20,
        }
    }

    fn asked() -> Asked {
        let mut wanted = Bitmap::new(20);
        wanted.insert(7);
        Asked { wanted, leaf: true }
    }

    fn meet(tls: Option<&Tls>, keys: [u8; 2]) -> (io::Result<()>, io::Result<Asked>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            let parent = scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                let mut link = Link::accept(stream, tls).unwrap();
                session(keys[0]).answer(&mut link)
            });
            let mut link = Link::connect(address, tls).unwrap();
            let child = session(keys[1]).ask(&mut link, &asked());
            drop(link);
            (child, parent.join().unwrap())
        })
    }

    #[test]
    fn machines_of_a_session_meet_and_others_do_not() {
        let tls = Tls::new().unwrap();
        for tls in [None, Some(&tls)] {
            let (child, parent) = meet(tls, [1, 1]);
            child.unwrap();
            let parent = parent.unwrap();
            assert!(parent.leaf && parent.wanted.has(7));
            let (child, parent) = meet(tls, [1, 2]);
            assert!(child.is_err());
            let error = parent.err().unwrap().to_string();
            assert!(error.contains("the session's key"), "{error}");
        }
    }

    /// Somebody in between speaks TLS to both and passes on what they say.
    #[test]
    fn a_proof_is_worth_nothing_on_another_connection() {
        let tls = Tls::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = TcpListener::bind("127.0.0.1:0").unwrap();
        let (parent_at, between_at) = (
            listener.local_addr().unwrap(),
            between.local_addr().unwrap(),
        );
        thread::scope(|scope| {
            let parent = scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                let mut link = Link::accept(stream, Some(&tls)).unwrap();
                session(1).answer(&mut link).err()
            });
            scope.spawn(|| {
                let (stream, _) = between.accept().unwrap();
                let mut child = Link::accept(stream, Some(&tls)).unwrap();
                let mut parent = Link::connect(parent_at, Some(&tls)).unwrap();
                let soon = || Instant::now() + Duration::from_secs(60);
                let mut hello = [0; 40];
                child.read_until(&mut hello, soon()).unwrap();
                parent.write_all(&hello).unwrap();
                parent.read_until(&mut hello, soon()).unwrap();
                child.write_all(&hello).unwrap();
                let mut rest = [0; 32 + 9 + 3];
                child.read_until(&mut rest, soon()).unwrap();
                parent.write_all(&rest).unwrap();
                let mut answer = [0; 32];
                assert!(parent.read_until(&mut answer, soon()).is_err());
            });
            let mut link = Link::connect(between_at, Some(&tls)).unwrap();
            assert!(session(1).ask(&mut link, &asked()).is_err());
            let error = parent.join().unwrap().unwrap().to_string();
            assert!(error.contains("the session's key"), "{error}");
        });
    }

    #[test]
    fn rubbish_ends_the_connection() {
        for rubbish in [
            &b"GET / HTTP/1.1\r\n\r\n......................"[..],
            &[0; 200],
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stream.write_all(rubbish).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let mut link = Link::accept(accepted, None).unwrap();
            let error = session(1).answer(&mut link).err().unwrap();
            assert_eq!(error.to_string(), "something that is no relay");
            drop(link);
            let _ = stream.read(&mut [0; 1]);
        }
    }
}
