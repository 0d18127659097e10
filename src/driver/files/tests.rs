//! What the thread of files does, without the thread.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::mesh::{Bell, INBOX_MESSAGES_MAX};
use crate::protocol::http::coding::Coding;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, file: &[u8]) -> Folder {
        let folder = std::env::temp_dir().join(format!("shardcast-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), file).unwrap();
        Folder(folder)
    }

    /// Its file has not been changed for as long as that.
    fn unchanged_for(&self, age: Duration) {
        let file = File::options().write(true).open(self.0.join("file")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_millis(unix_millis()) - age).unwrap();
    }

    fn lookup(&self) -> FileLookup {
        FileLookup {
            root: self.0.clone(),
            path: "file".to_owned(),
            if_none_match: None,
            ranges: None,
            tag: None,
            is_head: false,
            may_be_coded: true,
            coding: Coding::Gzip,
            coded_bytes_min: 1024,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(desk: &mut FileDesk, lookup: FileLookup) -> FileOutcome {
    desk.perform(FileWork::Open(Box::new(lookup)))
}

fn found(desk: &mut FileDesk, lookup: FileLookup) -> FileContent {
    match open(desk, lookup) {
        FileOutcome::Found(content) => content,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_is_compressed_once_and_shared() {
    let folder = Folder::new("coded", &b"all work and no play ".repeat(10_000));
    folder.unchanged_for(VERSION_AGE_MIN);
    let mut desk = FileDesk::new(1 << 20);
    let first = found(&mut desk, folder.lookup());
    let second = found(&mut desk, folder.lookup());
    assert!(Arc::ptr_eq(&first.start, &second.start), "the same bytes go out again");
    assert_eq!((first.coding, first.len, first.is_negotiated), (Some("gzip"), first.start.len(), true));
    let head = found(&mut desk, FileLookup { is_head: true, ..folder.lookup() });
    assert_eq!((head.coding, head.len, head.start.len()), (Some("gzip"), first.len, 0));
    std::fs::write(folder.0.join("file"), b"a new version ".repeat(10_000)).unwrap();
    let third = found(&mut desk, folder.lookup());
    assert!(third.tag != first.tag && third.start != first.start);
    let plain = found(&mut desk, FileLookup { coding: Coding::Identity, ..folder.lookup() });
    assert_eq!((plain.coding, plain.len, plain.is_negotiated), (None, 140_000, true));
}

#[test]
fn a_file_that_changes_within_a_tick_of_the_clock_is_not_kept_by_halves() {
    let folder = Folder::new("tick", &b"the first half".repeat(10_000));
    let mut desk = FileDesk::new(1 << 20);
    let first = found(&mut desk, folder.lookup());
    let metadata = std::fs::metadata(folder.0.join("file")).unwrap();
    std::fs::write(folder.0.join("file"), b"the other half".repeat(10_000)).unwrap();
    let file = File::options().write(true).open(folder.0.join("file")).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    let second = found(&mut desk, folder.lookup());
    assert_eq!(second.tag, first.tag, "they look alike");
    assert!(second.start != first.start, "and what is sent is what is there");
}

#[test]
fn what_the_client_has_and_what_it_does_not_ask_for_is_not_read() {
    let folder = Folder::new("stat", &vec![0; 300_000]);
    let mut desk = FileDesk::new(1 << 20);
    let plain = || FileLookup { may_be_coded: false, ..folder.lookup() };
    let tag = found(&mut desk, plain()).tag;
    // Whoever may not read it can still be told of it: nothing of the file was read.
    let head = found(&mut desk, FileLookup { is_head: true, ..plain() });
    assert_eq!((head.len, head.start.len(), head.rest.is_none()), (300_000, 0, true));
    let known = open(&mut desk, FileLookup { if_none_match: Some(tag.clone()), ..plain() });
    assert!(matches!(known, FileOutcome::Unchanged { tag: same } if same == tag));
    assert!(matches!(open(&mut FileDesk::new(1000), plain()), FileOutcome::Failed(FileError::TooLarge)));
    let none = FileLookup { path: "none".to_owned(), ..plain() };
    assert!(matches!(open(&mut desk, none), FileOutcome::Failed(FileError::NotFound)));
}

#[test]
fn a_long_file_comes_in_pieces_and_one_that_shrinks_comes_short() {
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let folder = Folder::new("pieces", &bytes);
    let mut desk = FileDesk::new(1 << 20);
    let content = found(&mut desk, FileLookup { may_be_coded: false, ..folder.lookup() });
    let handle = content.rest.expect("it is longer than a piece");
    let mut whole = content.start.to_vec();
    assert_eq!((whole.len(), content.len), (FILE_PIECE_BYTES, bytes.len()));
    let mut read = |offset: usize, len| {
        let work = FileWork::Read { handle: FileHandle::clone(&handle), offset: offset as u64, len };
        let FileOutcome::Piece(piece) = desk.perform(work) else { panic!("a piece was asked for") };
        piece
    };
    while whole.len() < bytes.len() {
        let piece = read(whole.len(), FILE_PIECE_BYTES.min(bytes.len() - whole.len()));
        whole.extend(piece);
    }
    assert_eq!(whole, bytes);
    File::options().write(true).open(folder.0.join("file")).unwrap().set_len(200_000).unwrap();
    assert_eq!(read(131_072, FILE_PIECE_BYTES).len(), 200_000 - 131_072);
}

struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

#[test]
fn an_answer_for_a_full_inbox_waits_and_nobody_else_with_it() {
    let (mesh, inboxes) = Mesh::new(vec![Box::new(NoBell), Box::new(NoBell)]);
    let noise = || ShardMessage::Trace { sid: crate::Sid::new(ShardId(0), [0; 13]), is_on: false };
    for _ in 0..INBOX_MESSAGES_MAX {
        assert!(mesh.send(ShardId(0), noise()).is_ok());
    }
    let mut undelivered = Undelivered::default();
    for (shard, index) in [(0, 1), (1, 2), (0, 3)] {
        let outcome = FileOutcome::Encoded(Some(SharedFrame::new(vec![0; 1000])));
        undelivered.push(ShardId(shard), FileAnswer { connection: Key { index, generation: 0 }, outcome });
    }
    assert_eq!(undelivered.deliver(&mesh), 1, "the other shard has its answer");
    assert_eq!(undelivered.bytes, 2000);
    assert!(matches!(inboxes[1].next_message(), Some(ShardMessage::File(_))));
    for _ in 0..INBOX_MESSAGES_MAX {
        assert!(inboxes[0].next_message().is_some());
    }
    assert_eq!((undelivered.deliver(&mesh), undelivered.bytes, undelivered.answers.len()), (2, 0, 0));
    let next = || match inboxes[0].next_message() {
        Some(ShardMessage::File(answer)) => Some(answer.connection.index),
        _ => None,
    };
    assert_eq!([next(), next(), next()], [Some(1), Some(3), None], "none is lost, and none comes twice");
}

#[test]
fn too_many_requests_are_refused_and_pieces_are_not() {
    let (jobs, _coming) = crossbeam_channel::unbounded();
    let waiting = Waiting { jobs: AtomicUsize::new(FILES_WAITING_MAX), ..Waiting::default() };
    let reader = FileReader { jobs, waiting: Arc::new(waiting) };
    let connection = Key { index: 7, generation: 0 };
    let job = |work| FileJob { shard: ShardId(0), connection, work };
    let encode = FileWork::Encode { body: SharedFrame::default(), coding: Coding::Gzip };
    let refused = reader.submit(job(encode)).expect("too many wait");
    assert!(matches!(refused.outcome, FileOutcome::Failed(FileError::Busy)));
    assert_eq!(refused.connection, connection);
    let read = FileWork::Read { handle: Arc::new(()), offset: 0, len: 1 };
    assert!(reader.submit(job(read)).is_none());
}

#[test]
fn bodies_that_wait_to_be_compressed_are_bounded_in_bytes() {
    let (jobs, coming) = crossbeam_channel::unbounded();
    let reader = FileReader { jobs, waiting: Arc::new(Waiting::default()) };
    let body = SharedFrame::new(vec![b'a'; 1024 * 1024]);
    let submit = || {
        let work = FileWork::Encode { body: SharedFrame::clone(&body), coding: Coding::Gzip };
        reader.submit(FileJob { shard: ShardId(0), connection: Key { index: 7, generation: 0 }, work })
    };
    let accepted = (0..FILES_WAITING_MAX).take_while(|_| submit().is_none()).count();
    assert_eq!(accepted, UNCODED_BYTES_MAX / body.len());
    let refused = submit().expect("too much waits");
    assert!(matches!(refused.outcome, FileOutcome::Encoded(None)), "it goes out as it is");
    let waiting = Arc::clone(&reader.waiting);
    assert_eq!(waiting.jobs.load(Ordering::Relaxed), accepted);
    let (mesh, _inboxes) = Mesh::new(vec![Box::new(NoBell)]);
    drop(reader);
    serve(&mesh, &coming, &waiting, &mut FileDesk::new(1));
    let left = (waiting.jobs.load(Ordering::Relaxed), waiting.uncoded.load(Ordering::Relaxed));
    assert_eq!(left, (0, 0), "each is taken from both counts once");
}

#[test]
fn answers_for_shards_that_stand_still_are_bounded_in_bytes() {
    let mut undelivered = Undelivered::default();
    let large = SharedFrame::new(vec![0; CODED_FILE_BYTES_MAX]);
    let found = || {
        FileOutcome::Found(FileContent {
            tag: String::new(),
            coding: None,
            is_negotiated: false,
            len: large.len(),
            start: SharedFrame::clone(&large),
            rest: None,
            modified: None,
            part: None,
        })
    };
    let mut push = |outcome| {
        undelivered.push(ShardId(0), FileAnswer { connection: Key { index: 7, generation: 0 }, outcome });
        match undelivered.answers.back() {
            Some((_, ShardMessage::File(answer))) => (answer.outcome.len_bytes(), undelivered.bytes),
            _ => panic!("an answer was pushed"),
        }
    };
    for count in 1..=UNDELIVERED_BYTES_MAX / large.len() {
        assert_eq!(push(found()), (large.len(), count * large.len()));
    }
    assert_eq!(push(found()), (0, UNDELIVERED_BYTES_MAX), "answered 503");
    let coded = FileOutcome::Encoded(Some(SharedFrame::clone(&large)));
    assert_eq!(push(coded), (0, UNDELIVERED_BYTES_MAX), "goes out as it is");
    assert_eq!(push(FileOutcome::Piece(vec![0; 100])), (100, UNDELIVERED_BYTES_MAX), "the connection's own");
}
