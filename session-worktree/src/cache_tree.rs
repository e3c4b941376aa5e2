//! The trees that an index remembers, so that git need not compute them again: the extension `TREE` of its file. Git takes one
//! that exists for complete, and a commit of an incomplete one would be damaged.

/// The signature of the extension.
const SIGNATURE: &[u8] = b"TREE";
/// Bytes of an object's id, in both formats.
const ID_BYTES: [usize; 2] = [20, 32];

/// Directories inside of each other that are read. A path of Linux has at most 4,096 bytes (`PATH_MAX`), so at most 2,048 names;
/// an index with more would exhaust the stack.
const MAX_DEPTH: usize = 2048;

/// Returns the trees that an index remembers, without those inside of another one.
pub(crate) fn remembered(index: &[u8]) -> Vec<String> {
    // The entries of the index before it differ by version. What only looks like the extension names no object.
    let starts = index.windows(SIGNATURE.len()).enumerate().filter(|(_, window)| *window == SIGNATURE);
    starts.filter_map(|(start, _)| extension(index.get(start + SIGNATURE.len()..)?)).flatten().collect()
}

/// Parses the extension, whose signature was read.
fn extension(rest: &[u8]) -> Option<Vec<String>> {
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let content = rest.get(..usize::try_from(u32::from_be_bytes(*size)).ok()?)?;
    ID_BYTES.into_iter().find_map(|id_bytes| {
        let (mut trees, mut left) = (Vec::new(), content);
        directory(&mut left, id_bytes, MAX_DEPTH, false, &mut trees)?;
        left.is_empty().then_some(trees)
    })
}

/// Parses a directory: its name, the number of entries below it (negative if its tree is not known), that of its
/// subdirectories, its tree, and these.
fn directory(
    left: &mut &[u8],
    id_bytes: usize,
    depth: usize,
    is_inside: bool,
    trees: &mut Vec<String>,
) -> Option<()> {
    let below = depth.checked_sub(1)?;
    take_until(left, 0)?;
    let entries: i64 = std::str::from_utf8(take_until(left, b' ')?).ok()?.parse().ok()?;
    let directories: u32 = std::str::from_utf8(take_until(left, b'\n')?).ok()?.parse().ok()?;
    let is_known = entries >= 0;
    if is_known {
        let (id, rest) = left.split_at_checked(id_bytes)?;
        *left = rest;
        if !is_inside {
            trees.push(id.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")));
        }
    }
    for _ in 0..directories {
        // Each takes some bytes, so a wrong number ends soon.
        directory(left, id_bytes, below, is_inside || is_known, trees)?;
    }
    Some(())
}

fn take_until<'a>(left: &mut &'a [u8], end: u8) -> Option<&'a [u8]> {
    let place = left.iter().position(|byte| *byte == end)?;
    let (taken, rest) = left.split_at(place);
    *left = rest.get(1..)?;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len()).unwrap().to_be_bytes();
        [b"DIRC entries TREE of other things", SIGNATURE, &size, content, b"checksum"].concat()
    }

    #[test]
    fn the_outermost_known_trees_are_found() {
        let known = [b"\x003 1\n".as_slice(), &[0xab; 20], b"src\x002 0\n", &[0xcd; 20]].concat();
        assert_eq!(remembered(&index(&known)), ["ab".repeat(20)]);
        let unknown =
            [b"\x00-1 2\na\x001 0\n".as_slice(), &[1; 20], b"b\x00-1 1\nc\x001 0\n", &[2; 20]].concat();
        assert_eq!(remembered(&index(&unknown)), ["01".repeat(20), "02".repeat(20)]);
        let long = [b"\x003 0\n".as_slice(), &[0xab; 32]].concat();
        assert_eq!(remembered(&index(&long)), ["ab".repeat(32)]);
    }

    #[test]
    fn every_cut_and_wrong_number_is_no_extension() {
        let known = index(&[b"\x003 1\n".as_slice(), &[0xab; 20], b"src\x002 0\n", &[0xcd; 20]].concat());
        for cut in 0..known.len() - b"checksum".len() {
            assert!(remembered(&known[..cut]).is_empty(), "{cut}");
        }
        assert!(remembered(&index(&[b"\x003 4000000000\n".as_slice(), &[0; 20]].concat())).is_empty());
        assert!(remembered(&index(b"")).is_empty());
    }

    #[test]
    fn directories_without_end_are_no_extension() {
        let nested = |depth: usize| {
            index(&[b"d\x00-1 1\n".repeat(depth), b"e\x001 0\n".to_vec(), vec![1; 20]].concat())
        };
        assert_eq!(remembered(&nested(MAX_DEPTH - 1)), ["01".repeat(20)]);
        assert!(remembered(&nested(MAX_DEPTH)).is_empty());
        assert!(remembered(&nested(1_000_000)).is_empty());
    }
}
