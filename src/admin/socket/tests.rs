//! Questions over a real socket.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

/// Answers with the question.
struct Echo;

#[async_trait]
impl Operated for Echo {
    async fn answer(&self, question: Question) -> Vec<u8> {
        match question {
            Question::Log { level: None } => refusal("nothing to say".to_owned()),
            question => Answer::Answer(question).text(),
        }
    }

    fn served(&self, ended: Result<(), JoinError>) {
        ended.unwrap();
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    (folder, path)
}

fn served(path: &Path) -> JoinHandle<()> {
    tokio::spawn(serve(Arc::new(Place::take(path).unwrap()), Arc::new(Echo)))
}

async fn ask(path: &Path, question: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(question).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_question_is_answered_and_what_is_none_is_refused() {
    let (_folder, path) = folder();
    let serving = served(&path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(ask(&path, b"{\"ask\":\"status\"}\n").await, r#"{"answer":{"ask":"status"}}"#);
    assert_eq!(ask(&path, b"{\"ask\":\"log\",\"level\":null}\n").await, r#"{"error":"nothing to say"}"#);
    for wrong in ["{\"ask\":\"stop\"}\n", "{\"ask\":\"log\",\"x\":1}\n", "GET / HTTP/1.1\n"] {
        let said = ask(&path, wrong.as_bytes()).await;
        assert!(said.starts_with(r#"{"error":"this is no question: "#), "{said}");
    }
    let long = ask(&path, &vec![b' '; QUESTION_BYTES_MAX]).await;
    assert_eq!(long, r#"{"error":"a question has at most 4096 octets"}"#);
    serving.abort();
    assert!(serving.await.is_err() && !path.exists(), "its file goes with it");
}

#[tokio::test]
async fn silent_clients_are_sent_away_and_hold_nobody_up_for_longer() {
    let (_folder, path) = folder();
    let bounds = Bounds { connections: 2, question_time: Duration::from_millis(50), ..BOUNDS };
    let serving = tokio::spawn(serve_within(bounds, Arc::new(Place::take(&path).unwrap()), Arc::new(Echo)));
    let silent = [UnixStream::connect(&path).await.unwrap(), UnixStream::connect(&path).await.unwrap()];
    assert!(
        ask(&path, b"{\"ask\":\"status\"}\n").await.contains("answer"),
        "a third waits for one of the two"
    );
    for mut stream in silent {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, r#"{"error":"no question came in time"}"#);
    }
    serving.abort();
}

#[tokio::test]
async fn only_a_socket_that_nobody_serves_is_replaced() {
    let (folder, path) = folder();
    // What a relay that was killed has left.
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = Place::take(&path).unwrap();
    let second = Place::take(&path).unwrap_err().to_string();
    assert!(second.contains("another relay answers there; stop it"), "{second}");
    drop(first);
    assert!(!path.exists());
    std::fs::write(&path, "a file of somebody's").unwrap();
    let refused = Place::take(&path).unwrap_err().to_string();
    assert!(refused.contains("is there already and is no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of somebody's");
    let nowhere = Place::take(&folder.path().join("not/there")).unwrap_err().to_string();
    assert!(nowhere.contains("its folder must be there"), "{nowhere}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[tokio::test]
async fn the_file_of_another_relay_is_left_alone() {
    let (_folder, path) = folder();
    let first = Place::take(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Place::take(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}
