//! Interrupts by the callback of a thread. Every wait of a call ends at once, and what the call was made on works
//! afterwards. `write::interrupted_writers` has the writers, which fail for good.

use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aztorch::{BlobRange, BlobReader, Client, Dataset, Result, Status, Stream, WriteMode, set_interrupt_callback};

use crate::support::client::{client, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};
use crate::support::interrupt::{interrupted, interrupted_when};

const MIB: u64 = 1 << 20;
const CONTENT: Content = Content { seed: 58, size: 24 * MIB };

fn server(fault: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) -> FaultServer {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    server.on_request(move |request| fault(request.verb()));
    server
}

/// A response that comes too late for every test.
fn silence() -> Fault {
    Fault::Delay(Duration::from_secs(60))
}

type Operation<'a> = dyn Fn(&Client, &FaultServer) -> Result<()> + 'a;

#[test]
fn an_interrupted_operation_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (file, new_file) = (folder.path().join("file"), folder.path().join("new"));
    std::fs::write(&file, vec![1; 1000]).unwrap();
    let operations: [(&str, &Operation<'_>); 10] = [
        ("open", &|client, server| client.open(&server.url("blob")).map(drop)),
        ("open_if_changed", &|client, server| client.open_if_changed(&server.url("blob"), "\"0x0\"").map(drop)),
        ("exists", &|client, server| client.exists(&server.url("blob")).map(|exists| assert!(exists))),
        ("list", &|client, server| Dataset::list(client, &server.container_url(), None).map(drop)),
        ("from_manifest", &|client, server| Dataset::from_manifest(client, &server.url("manifest")).map(drop)),
        ("from_tars", &|client, server| match Dataset::from_tars(client, &[server.url("blob")]) {
            Err(error) if error.status() == Status::Corrupt => Ok(()),
            result => result.map(drop),
        }),
        ("download", &|client, server| client.download(&server.url("blob"), &new_file)),
        ("upload", &|client, server| client.upload(&file, &server.url("uploaded"), WriteMode::Replace)),
        ("save_manifest", &|client, server| {
            Dataset::from_urls(client, &[server.url("blob")])?.save_manifest(&server.url("saved"))
        }),
        ("delete", &|client, server| client.delete(&server.url("blob"))),
    ];
    for (name, operation) in operations {
        let server = server(|_| None);
        Dataset::from_urls(&client(), &[server.url("blob")]).unwrap().save_manifest(&server.url("manifest")).unwrap();
        let client = client();
        for fault in [silence(), Fault::Status { status: 503, code: "ServerBusy", retry_after: Some(60) }] {
            server.on_request(move |_| Some(fault.clone()));
            let error = interrupted(|| operation(&client, &server));
            assert!(!error.is_retryable(), "{name}: {error}");
            assert!(name != "download" || !new_file.exists());
        }
        server.on_request(|_| None);
        operation(&client, &server).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn an_interrupted_read_leaves_the_position_and_the_callers_memory_alone() {
    let server = server(|_| None);
    // Stored bytes: to compute them for a response takes too long on a busy machine.
    server.put("blob", CONTENT.all());
    let reader = client().open(&server.url("blob")).unwrap();
    reader.seek(SeekFrom::Start(1000)).unwrap();
    server.limit_bandwidth(2_000_000);
    let mut buffer = vec![0; CONTENT.size as usize - 1000];
    for read in [BlobReader::read, |reader: &BlobReader, buffer: &mut [u8]| reader.read_at(0, buffer)] {
        buffer.fill(0);
        interrupted(|| read(&reader, &mut buffer));
        assert!(buffer.iter().any(|&byte| byte != 0), "no byte had arrived, so nothing was tested");
        buffer.fill(0xA5);
        thread::sleep(Duration::from_millis(300));
        assert!(buffer.iter().all(|&byte| byte == 0xA5));
        assert_eq!(reader.position().unwrap(), 1000);
    }
    server.limit_bandwidth(u64::MAX);
    assert_eq!(reader.read(&mut buffer).unwrap(), buffer.len());
    assert_same(&buffer, &CONTENT.bytes(1000, buffer.len()));
}

#[test]
fn an_interrupted_small_read_leaves_the_cached_bytes_under_way() {
    let server = server(|_| None);
    server.put("blob", CONTENT.bytes(0, 100_000));
    server.script("GET", [Fault::Trickle(Duration::from_millis(100))]);
    let reader = client().open(&server.url("blob")).unwrap();
    let mut buffer = [0; 100];
    interrupted(|| reader.read(&mut buffer));
    assert_eq!(reader.position().unwrap(), 0);
    // The background request goes on, and brings these bytes.
    let requests = server.requests().len();
    assert_eq!(reader.read(&mut buffer[..5]).unwrap(), 5);
    assert_eq!((server.requests().len(), &buffer[..5]), (requests, &CONTENT.bytes(0, 5)[..]));
}

#[test]
fn a_read_that_waits_for_another_threads_read_is_interrupted() {
    let server = server(|_| None);
    server.put("blob", CONTENT.all());
    let reader = client().open(&server.url("blob")).unwrap();
    server.limit_bandwidth(500_000);
    let (reader, (begun, begins)) = (&reader, channel());
    thread::scope(|scope| {
        scope.spawn(move || {
            let requests = || server.requests().len();
            let before = requests();
            scope.spawn(move || expect_error(reader.read(&mut vec![0; CONTENT.size as usize]), Status::Cancelled));
            while requests() == before {
                thread::sleep(Duration::from_millis(10));
            }
            begun.send(()).unwrap();
        });
        begins.recv().unwrap();
        interrupted(|| reader.read(&mut [0; 10]));
        interrupted(|| reader.seek(SeekFrom::Start(5)));
        assert_eq!(reader.position().unwrap(), 0, "the position can be read meanwhile");
        reader.cancel();
    });
}

#[test]
fn after_an_interrupt_a_dataset_fetches_as_before() {
    let fetches: [fn(&Dataset) -> Result<()>; 5] = [
        |dataset| dataset.get(0).map(|sample| assert_same(sample.bytes(), &CONTENT.all())),
        |dataset| dataset.get_batch(&[0, 1, 1]).map(|samples| assert_same(samples[2].bytes(), &CONTENT.bytes(5, 10))),
        |dataset| {
            let mut buffers = [vec![0; CONTENT.size as usize], vec![0; 10]];
            let [large, small] = &mut buffers;
            dataset.get_batch_into(&[0, 1], &mut [large, small])?;
            assert_same(&buffers[1], &CONTENT.bytes(5, 10));
            Ok(())
        },
        |dataset| dataset.get_into(0, &mut vec![0; CONTENT.size as usize]).map(drop),
        |dataset| dataset.open(1).and_then(|reader| read_rest(&reader)).map(drop),
    ];
    for fetch in fetches {
        let server = server(|_| Some(silence()));
        let ranges =
            [(0, CONTENT.size), (5, 10)].map(|(offset, length)| BlobRange { url: server.url("blob"), offset, length });
        let dataset = Dataset::from_ranges(&client(), &ranges).unwrap();
        interrupted(|| fetch(&dataset));
        server.on_request(|_| Some(Fault::StallAfterHead));
        interrupted(|| dataset.get_batch(&[0, 1]));
        server.on_request(|_| None);
        fetch(&dataset).unwrap();
    }
}

#[test]
fn a_get_that_waits_for_a_prefetch_is_interrupted_and_the_other_prefetches_go_on() {
    let server = server(|_| None);
    server.put("other", b"other".to_vec());
    let waits = Arc::new(AtomicUsize::new(0));
    let counted = waits.clone();
    server.on_request(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        Some(if request.path.ends_with("blob") { silence() } else { Fault::Delay(Duration::from_millis(600)) })
    });
    let dataset = Dataset::from_urls(&client(), &[server.url("blob"), server.url("other")]).unwrap();
    dataset.prefetch(&[0, 1]).unwrap();
    interrupted_when(move || waits.load(Ordering::SeqCst) == 2, || dataset.get(0).map(drop));
    assert_eq!(dataset.get(1).unwrap().bytes(), b"other");
    assert_eq!(server.requests().iter().filter(|request| request.path.ends_with("other")).count(), 1);
    server.on_request(|_| None);
    assert_same(dataset.get(0).unwrap().bytes(), &CONTENT.all());
}

fn numbered(server: &FaultServer) -> Vec<String> {
    let names: Vec<String> = (0..6).map(|number| number.to_string()).collect();
    names.iter().for_each(|name| drop(server.put(name, name.as_bytes().to_vec())));
    names
}

fn rest_of(stream: &Stream) -> Vec<String> {
    let samples = std::iter::from_fn(|| stream.next().unwrap());
    samples.map(|sample| String::from_utf8(sample.bytes().to_vec()).unwrap()).collect()
}

#[test]
fn the_next_call_on_a_stream_gives_the_sample_of_the_interrupted_one() {
    let server = FaultServer::start();
    let names = numbered(&server);
    let urls: Vec<_> = names.iter().map(|name| server.url(name)).collect();
    for fault in [silence(), Fault::StallAfterHead] {
        server.on_request(move |request| request.path.ends_with("/3").then(|| fault.clone()));
        let stream = Stream::from_urls(&client(), &urls, 0, 1).unwrap();
        for name in &names[..3] {
            assert_eq!(stream.next().unwrap().unwrap().bytes(), name.as_bytes());
        }
        interrupted(|| stream.next());
        interrupted(|| stream.next());
        server.on_request(|_| None);
        assert_eq!(rest_of(&stream), names[3..]);
    }
}

#[test]
fn an_interrupt_leaves_the_listing_of_a_stream_under_way() {
    let server = FaultServer::start();
    let names = numbered(&server);
    server.script("list", [Fault::Delay(Duration::from_secs(3))]);
    let stream = Stream::list(&client(), &server.container_url(), None, 0, 1).unwrap();
    interrupted(|| stream.next());
    assert_eq!(rest_of(&stream), names);
    assert_eq!(server.requests_of("list").len(), 1);
}

#[test]
fn other_calls_on_the_same_client_are_not_disturbed() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let arrives = arrived.clone();
    let server = server(move |_| {
        arrives.fetch_add(1, Ordering::SeqCst);
        Some(Fault::Delay(Duration::from_secs(2)))
    });
    let (client, url) = (client(), server.url("blob"));
    let dataset = Dataset::from_urls(&client, &[&url]).unwrap();
    thread::scope(|scope| {
        let others = [
            scope.spawn(|| client.exists(&url).map(drop)),
            scope.spawn(|| client.open(&url).map(drop)),
            scope.spawn(|| dataset.get(0).map(drop)),
        ];
        interrupted_when(move || arrived.load(Ordering::SeqCst) == 4, || client.exists(&url));
        for other in others {
            other.join().unwrap().unwrap();
        }
    });
    assert_eq!(server.requests_of("HEAD").len(), 2, "a request was repeated");
}

#[test]
fn the_callback_is_asked_only_while_its_own_thread_waits() {
    let server = server(|_| None);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let own_thread = thread::current().id();
    let callback = move || {
        assert_eq!(thread::current().id(), own_thread);
        count.fetch_add(1, Ordering::SeqCst);
        false
    };
    set_interrupt_callback(Some(Box::new(callback))).unwrap();
    let client = client();
    Dataset::from_urls(&client, &[""; 0]).unwrap().get_batch(&[]).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    thread::scope(|scope| scope.spawn(|| client.exists(&server.url("blob"))).join().unwrap()).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a call of another thread has asked it");
    server.on_request(|_| Some(Fault::Delay(Duration::from_secs(2))));
    let began = Instant::now();
    assert!(client.exists(&server.url("blob")).unwrap());
    let most = began.elapsed().as_millis() / 25;
    let asked = asked.load(Ordering::SeqCst) as u128;
    assert!((1..=most).contains(&asked), "{asked} times, not 1 to {most}");
    set_interrupt_callback(None).unwrap();
}

#[test]
fn blocking_calls_fail_inside_the_callback() {
    let server = server(|_| Some(Fault::Delay(Duration::from_secs(2))));
    let (other, url) = (client(), server.url("blob"));
    let (sender, results) = channel();
    let callback = move || {
        sender.send((other.exists(&url).map(drop), Dataset::from_urls(&other, &[&url]).map(drop))).unwrap();
        // A callback may remove itself.
        set_interrupt_callback(None).unwrap();
        false
    };
    set_interrupt_callback(Some(Box::new(callback))).unwrap();
    client().exists(&server.url("blob")).unwrap();
    let (blocking, other) = results.recv().unwrap();
    expect_error(blocking, Status::Unsupported);
    other.unwrap();
    assert!(results.recv().is_err(), "the callback was not dropped");
}

#[test]
fn deadlines_cancellations_and_progress_work_beside_a_callback() {
    let server = server(|_| Some(Fault::StallAfterHead));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let never = move || {
        count.fetch_add(1, Ordering::SeqCst);
        false
    };
    set_interrupt_callback(Some(Box::new(never))).unwrap();
    let url = server.url("blob");
    let hasty = client().with_timeout(Some(Duration::from_millis(300)));
    let dataset = Dataset::from_urls(&hasty, &[&url]).unwrap();
    dataset.prefetch(&[0]).unwrap();
    expect_error(dataset.get(0), Status::Timeout);
    let reader = hasty.open(&url).unwrap();
    expect_error(reader.read(&mut [0; 10]), Status::Timeout);
    expect_error(reader.read_at(10 * MIB, &mut vec![0; 5 << 20]), Status::Timeout);
    assert!(asked.load(Ordering::SeqCst) > 0);

    let reader = client().open(&url).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            reader.cancel();
        });
        let error = expect_error(reader.read_at(0, &mut vec![0; CONTENT.size as usize]), Status::Cancelled);
        assert!(!error.message().contains("interrupted"), "{error}");
    });

    server.on_request(|_| None);
    server.put("blob", CONTENT.all());
    server.limit_bandwidth(4_000_000);
    let (reader, reports) = (client().open(&url).unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = reports.clone();
    let report = move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    reader.set_progress(Some(Arc::new(report))).unwrap();
    let began = Instant::now();
    reader.read_at(0, &mut vec![0; CONTENT.size as usize]).unwrap();
    let most = began.elapsed().as_millis() / 100 + 1;
    let reports = reports.load(Ordering::SeqCst) as u128;
    assert!((2..=most).contains(&reports), "{reports} reports, not 2 to {most}");
    set_interrupt_callback(None).unwrap();
}
