//! Where events come from when there is no store: files, plain or compressed, stdin, and folders of what a bucket
//! holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use audit::verify::{Blocks, Examined};
use flate2::read::MultiGzDecoder;
use uuid::Uuid;

/// Folders in folders, at most: `date=…` is one.
const DEPTH_MAX: usize = 16;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Opens a file of lines, whatever its compression; `-` is stdin.
///
/// # Errors
/// A file that cannot be opened.
pub(super) fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    let name = path.display();
    if path == Path::new("-") {
        return uncompressed(io::stdin()).context("stdin cannot be read");
    }
    let file = File::open(path).with_context(|| format!("`{name}` cannot be opened"))?;
    uncompressed(file).with_context(|| format!("`{name}` cannot be read"))
}

/// What it is shows in its first bytes, be its name what it may.
fn uncompressed(mut reader: impl Read + 'static) -> anyhow::Result<Box<dyn Read>> {
    let mut start = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut start)?;
    let kind = (start.starts_with(&GZIP), start.starts_with(&ZSTD));
    let whole = Cursor::new(start).chain(reader);
    Ok(match kind {
        (true, _) => Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, whole))),
        (_, true) => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

/// One log in files, in the order in which they are to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) paths: Vec<PathBuf>,
    /// From a folder: parts may overlap, as they do after a replay.
    pub(super) may_repeat: bool,
}

impl Files {
    /// The lines of all of them, a block at a time.
    pub(super) fn blocks(&self) -> impl Iterator<Item = anyhow::Result<Vec<u8>>> + '_ {
        self.paths.iter().flat_map(|path| {
            let (blocks, error) = match open(path) {
                Ok(reader) => (Some(Blocks::new(reader)), None),
                Err(error) => (None, Some(Err(error))),
            };
            let read = |block: io::Result<Vec<u8>>| {
                block.with_context(|| format!("`{}` cannot be read", path.display()))
            };
            error.into_iter().chain(blocks.into_iter().flatten().map(read))
        })
    }
}

/// The logs that these paths hold: the files among them are one, each chain in a folder is another.
///
/// # Errors
/// A folder that cannot be read, or holds no events.
pub(super) fn logs(paths: &[PathBuf]) -> anyhow::Result<Vec<Files>> {
    let (folders, files): (Vec<_>, Vec<_>) = paths.iter().cloned().partition(|path| path.is_dir());
    let mut logs = Vec::new();
    if !files.is_empty() {
        logs.push(Files { paths: files, may_repeat: false });
    }
    for folder in folders {
        let mut found = Vec::new();
        walk(&folder, DEPTH_MAX, &mut found)?;
        let of_folder = of_folder(found)?;
        if of_folder.is_empty() {
            anyhow::bail!(
                "`{}` holds no events: a bucket's folder has files like `date=2026-01-16/part-CHAIN-1-100.jsonl`",
                folder.display()
            );
        }
        logs.extend(of_folder);
    }
    Ok(logs)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let context = || format!("the folder `{}` cannot be read", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        // Links are not followed: they could lead in circles.
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Files named as parts are, by chain and first event; where there are none, all files of lines by the first event in each.
fn of_folder(found: Vec<PathBuf>) -> anyhow::Result<Vec<Files>> {
    let mut parts: BTreeMap<Uuid, Vec<(u64, PathBuf)>> = BTreeMap::new();
    for path in &found {
        if let Some((chain, first)) = path.file_name().and_then(|name| part(name.to_str()?)) {
            parts.entry(chain).or_default().push((first, path.clone()));
        }
    }
    if parts.is_empty() {
        for path in found {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if ["jsonl", "json", "ndjson", "log"].iter().any(|kind| name.contains(&format!(".{kind}")))
                && let Some((chain, first)) = first_event(&path)?
            {
                parts.entry(chain).or_default().push((first, path));
            }
        }
    }
    let log = |mut parts: Vec<(u64, PathBuf)>| {
        parts.sort();
        Files { paths: parts.into_iter().map(|(_, path)| path).collect(), may_repeat: true }
    };
    Ok(parts.into_values().map(log).collect())
}

/// Chain and first event of `part-<chain>-<first>-<last>.jsonl[.gz|.zst]`; what may follow on `<last>-` tells apart objects
/// of the same events.
fn part(name: &str) -> Option<(Uuid, u64)> {
    let (stem, kind) = name.strip_prefix("part-")?.split_once('.')?;
    if !matches!(kind, "jsonl" | "jsonl.gz" | "jsonl.zst") {
        return None;
    }
    let (chain, numbers) = stem.split_at_checked(36)?;
    let mut numbers = numbers.strip_prefix('-')?.split('-');
    let (first, last) = (numbers.next()?.parse().ok()?, numbers.next()?.parse::<u64>().ok()?);
    (first <= last).then_some((Uuid::try_parse(chain).ok()?, first))
}

/// The chain of the first event.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn chain_of(log: &Files) -> anyhow::Result<Option<Uuid>> {
    let first = log.paths.first().map(|path| first_event(path)).transpose()?;
    Ok(first.flatten().map(|(chain, _)| chain))
}

fn first_event(path: &Path) -> anyhow::Result<Option<(Uuid, u64)>> {
    let Some(block) = Blocks::new(open(path)?).next() else { return Ok(None) };
    let block = block.with_context(|| format!("`{}` cannot be read", path.display()))?;
    let line = block.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    Ok(line.and_then(|line| Examined::position(line.trim_ascii()).place()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const CHAIN: &str = "019bc8a0-0000-7000-8000-000000000001";

    #[test]
    fn parts_are_known_by_their_names() {
        let chain: Uuid = CHAIN.parse().unwrap();
        for kind in ["jsonl", "jsonl.gz", "jsonl.zst"] {
            assert_eq!(part(&format!("part-{CHAIN}-101-200.{kind}")), Some((chain, 101)));
            assert_eq!(part(&format!("part-{CHAIN}-101-200-0123456789abcdef.{kind}")), Some((chain, 101)));
        }
        for name in [
            format!("part-{CHAIN}-1-2.parquet"),
            format!("part-{CHAIN}-1.jsonl"),
            format!("part-{CHAIN}-a-b.jsonl"),
            "part-x-1-2.jsonl".to_owned(),
            format!("{CHAIN}-1-2.jsonl"),
        ] {
            assert_eq!(part(&name), None, "{name}");
        }
    }

    #[test]
    fn a_folder_is_read_by_number_and_not_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |day: &str, first: u64, kind: &str| {
            let folder = folder.path().join(format!("date={day}"));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join(format!("part-{CHAIN}-{first}-{}.{kind}", first + 9));
            std::fs::write(&path, b"").unwrap();
            path
        };
        let wanted = [
            file("2026-01-02", 1, "jsonl"),
            file("2026-01-01", 11, "jsonl.gz"),
            file("2026-01-03", 101, "jsonl"),
        ];
        std::fs::write(folder.path().join("notes.jsonl"), b"{}").unwrap();
        let found = logs(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found, [Files { paths: wanted.to_vec(), may_repeat: true }]);
        let empty = tempfile::tempdir().unwrap();
        assert!(logs(&[empty.path().to_owned()]).unwrap_err().to_string().contains("holds no events"));
    }

    #[test]
    fn rotated_files_are_read_by_what_they_begin_with() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, seq: u64| {
            let (path, hash) = (folder.path().join(name), "ab".repeat(32));
            let event = serde_json::json!({"event": {"seq": seq},
                "audit": {"chain": CHAIN, "prev_hash": hash, "hash": hash}});
            std::fs::write(&path, format!("\n{event}\n")).unwrap();
            path
        };
        let (last, first) = (file("events.jsonl", 900), file("events.jsonl.20260116T182211Z", 1));
        let middle = file("events.jsonl.20260115T000000Z", 40);
        std::fs::write(folder.path().join("empty.jsonl"), b"").unwrap();
        let found = logs(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found, [Files { paths: vec![first, middle, last], may_repeat: true }]);
    }

    #[test]
    fn compression_is_known_by_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"one\ntwo\n".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        // Two members in one file, as appending makes them.
        let gzip = gzip.finish().unwrap().repeat(2);
        for (bytes, times) in
            [(text.clone(), 1), (gzip, 2), (zstd::encode_all(&text[..], 1).unwrap(), 1), (b"x".to_vec(), 0)]
        {
            let path = folder.path().join("events.bin");
            std::fs::write(&path, bytes).unwrap();
            let mut read = Vec::new();
            open(&path).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, if times == 0 { b"x".to_vec() } else { text.repeat(times) });
        }
    }
}
