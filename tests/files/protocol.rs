//! Shows a tree to the kernel, by FUSE.
//!
//! The kernel keeps pages in its cache, as for a file system of its own, so that a file may be mapped by several and written
//! to. Where it holds writes back too, they come as pages, and late.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::tree::{MARKS, Node, ROOT, Tree};
use crate::blocks::fuse::{Fuse, Request, greeting, u32_at, u64_at, words};

/// Files are not read past the cache, but for the one that takes marks.
const DIRECT: u64 = 1;
/// What is in the cache is still there for who opens the file next.
const KEEPS_CACHE: u64 = 2;

pub(crate) fn mount(at: &Path, tree: Arc<Mutex<Tree>>, holds_writes_back: bool) -> std::io::Result<Fuse> {
    const WRITEBACK_CACHE: u32 = 1 << 16;
    let wishes = if holds_writes_back { WRITEBACK_CACHE } else { 0 };
    Fuse::answered_by(at, move |request| match request.opcode {
        // INIT
        26 => Ok(greeting(request.body, wishes)),
        _ => answer(request, &mut tree.lock()),
    })
}

fn index(number: u64) -> Result<usize, Errno> {
    usize::try_from(number).map_err(|_| Errno::INVAL)
}

/// Names that end with a zero, one behind the other.
fn names<const COUNT: usize>(bytes: &[u8]) -> Result<[&str; COUNT], Errno> {
    let mut names = bytes.split(|byte| *byte == 0).map(|name| str::from_utf8(name).map_err(|_| Errno::INVAL));
    let mut found = [""; COUNT];
    for name in &mut found {
        *name = names.next().ok_or(Errno::INVAL)??;
    }
    Ok(found)
}

fn name(bytes: &[u8]) -> Result<&str, Errno> {
    names::<1>(bytes).map(|[name]| name)
}

fn answer(request: &Request<'_>, tree: &mut Tree) -> Result<Vec<u8>, Errno> {
    let (node, body) = (request.node, request.body);
    match request.opcode {
        // READ, WRITE, FSYNC and FSYNCDIR
        15 => tree.read(node, index(u64_at(body, 8))?, index(u64::from(u32_at(body, 16)))?),
        16 => write(node, body, tree),
        20 | 30 => tree.sync(node).map(|()| Vec::new()),
        // FALLOCATE
        43 => allocate(node, body, tree),
        // SETATTR: of what can be set only the length counts
        4 => {
            if u32_at(body, 0) & 8 != 0 && node != MARKS {
                tree.resize(node, index(u64_at(body, 16))?)?;
            }
            attributes_for_now(node, tree)
        }
        // GETATTR
        3 => attributes_for_now(node, tree),
        // OPEN and OPENDIR
        14 | 27 => Ok(words(&[0, if node == MARKS { DIRECT } else { KEEPS_CACHE }])),
        // READDIR
        28 => list(node, index(u64_at(body, 8))?, index(u64::from(u32_at(body, 16)))?, tree),
        // STATFS: there is always space
        17 => {
            let mut out = words(&[1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20]);
            out.extend([4096_u32, 255, 4096].iter().flat_map(|word| word.to_le_bytes()));
            out.resize(80, 0);
            Ok(out)
        }
        // RELEASE, FLUSH, RELEASEDIR, DESTROY
        18 | 25 | 29 | 38 => Ok(Vec::new()),
        _ => change_names(request, tree),
    }
}

fn change_names(request: &Request<'_>, tree: &mut Tree) -> Result<Vec<u8>, Errno> {
    let (directory, body) = (request.node, request.body);
    match request.opcode {
        // LOOKUP
        1 => {
            let node = tree.look_up(directory, name(body)?)?;
            entry(node, tree)
        }
        // MKDIR
        9 => {
            let node = tree.make(directory, name(&body[8..])?, true)?;
            entry(node, tree)
        }
        // UNLINK and RMDIR
        10 | 11 => tree.remove(directory, name(body)?).map(|()| Vec::new()),
        // RENAME
        12 => {
            let [from, to] = names(&body[8..])?;
            if u64_at(body, 0) != directory {
                return Err(Errno::XDEV);
            }
            tree.rename(directory, from, to).map(|()| Vec::new())
        }
        // LINK
        13 => {
            let node = u64_at(body, 0);
            tree.link(directory, name(&body[8..])?, node)?;
            entry(node, tree)
        }
        // CREATE
        35 => {
            let node = tree.make(directory, name(&body[16..])?, false)?;
            let mut out = entry(node, tree)?;
            out.extend(words(&[0, KEEPS_CACHE]));
            Ok(out)
        }
        _ => Err(Errno::NOSYS),
    }
}

fn write(node: u64, body: &[u8], tree: &mut Tree) -> Result<Vec<u8>, Errno> {
    const FROM_THE_CACHE: u32 = 1;
    let (at, bytes) = (index(u64_at(body, 8))?, &body[40..]);
    if node == MARKS {
        tree.mark(&String::from_utf8_lossy(bytes));
    } else {
        tree.write(node, at, bytes, u32_at(body, 20) & FROM_THE_CACHE != 0)?;
    }
    Ok(words(&[bytes.len() as u64]))
}

fn allocate(node: u64, body: &[u8], tree: &mut Tree) -> Result<Vec<u8>, Errno> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    let (from, length) = (index(u64_at(body, 8))?, index(u64_at(body, 16))?);
    match u32_at(body, 24) {
        0 => tree.allocate(node, from + length)?,
        KEEP_SIZE => {}
        mode if mode == KEEP_SIZE | PUNCH_HOLE => tree.punch(node, from, from + length)?,
        _ => return Err(Errno::OPNOTSUPP),
    }
    Ok(Vec::new())
}

/// The names of a directory that fit, from that place on.
fn list(node: u64, from: usize, space: usize, tree: &mut Tree) -> Result<Vec<u8>, Errno> {
    const DIRECTORY: u32 = 4;
    const FILE: u32 = 8;
    let kind = if node == ROOT { DIRECTORY } else { FILE };
    let mut out = Vec::new();
    for (place, (name, node)) in tree.names(node)?.iter().enumerate().skip(from) {
        let mut entry = words(&[*node, place as u64 + 1]);
        entry.extend(u32::try_from(name.len()).map_err(|_| Errno::INVAL)?.to_le_bytes());
        entry.extend(kind.to_le_bytes());
        entry.extend(name.as_bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        if out.len() + entry.len() > space {
            break;
        }
        out.extend(entry);
    }
    Ok(out)
}

fn entry(node: u64, tree: &Tree) -> Result<Vec<u8>, Errno> {
    let mut entry = words(&[node, 0, 0, 0, 0]);
    entry.extend(attributes(node, tree)?);
    Ok(entry)
}

/// They are asked for again each time.
fn attributes_for_now(node: u64, tree: &Tree) -> Result<Vec<u8>, Errno> {
    let mut out = words(&[0, 0]);
    out.extend(attributes(node, tree)?);
    Ok(out)
}

fn attributes(node: u64, tree: &Tree) -> Result<Vec<u8>, Errno> {
    let (size, mode, links) = match (node, tree.node(node)) {
        (MARKS, _) => (0, 0o100_600, 1),
        (_, Ok(Node::Directory(_))) => (0, 0o040_700, 2),
        (_, Ok(Node::File { bytes, links, .. })) => (bytes.len() as u64, 0o100_600, *links),
        (_, Err(error)) => return Err(error),
    };
    let mut out = words(&[node, size, size.div_ceil(512), 0, 0, 0]);
    for word in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
        out.extend(u32::to_le_bytes(word));
    }
    Ok(out)
}
