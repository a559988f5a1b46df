//! Opening a place in an object store: the URL says where, the session's settings and the environment how.

use millstream_core::connector::SessionInfo;
use millstream_core::{Error, Result};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An object store with multipart uploads whose parts survive the process.
pub(super) trait Objects: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Objects for T {}

/// Where a table's files are.
#[derive(Clone)]
pub(super) enum Location {
    /// A local file or folder.
    Local(PathBuf),
    /// A key, or what keys begin with.
    Objects {
        /// The bucket.
        store: Arc<dyn Objects>,
        /// Where in it.
        prefix: Path,
    },
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => write!(f, "{}", path.display()),
            Location::Objects { store, prefix } => write!(f, "{store}/{prefix}"),
        }
    }
}

/// The place that `path` names: a local path, relative to the session's folder, or a URL.
pub(super) fn open(path: &str, session: &SessionInfo) -> Result<Location> {
    let local = |rest: &str| Ok(Location::Local(session.base_dir.join(rest)));
    let Some((scheme, rest)) = path.split_once("://") else {
        return local(path.strip_prefix("file:").unwrap_or(path));
    };
    let store: Arc<dyn Objects> = match scheme {
        "file" => return local(rest),
        "s3" | "s3a" => {
            let builder = object_store::aws::AmazonS3Builder::new().with_url(path).with_retry(retry());
            let options = options("AWS_", session).filter_map(|(k, v)| Some((k.parse().ok()?, v)));
            Arc::new(options.fold(builder, |b, (k, v)| b.with_config(k, v)).build().map_err(|e| wrong(path, e))?)
        }
        "gs" => {
            let builder = object_store::gcp::GoogleCloudStorageBuilder::new().with_url(path).with_retry(retry());
            let options = options("GOOGLE_", session).filter_map(|(k, v)| Some((k.parse().ok()?, v)));
            Arc::new(options.fold(builder, |b, (k, v)| b.with_config(k, v)).build().map_err(|e| wrong(path, e))?)
        }
        "az" | "azure" | "abfs" | "abfss" | "adl" => {
            let builder = object_store::azure::MicrosoftAzureBuilder::new().with_url(path).with_retry(retry());
            let options = options("AZURE_", session).filter_map(|(k, v)| Some((k.parse().ok()?, v)));
            Arc::new(options.fold(builder, |b, (k, v)| b.with_config(k, v)).build().map_err(|e| wrong(path, e))?)
        }
        other => {
            return Err(Error::script(format!("there is no storage '{other}://'"))
                .hint("use a local path, or one that begins with file://, s3://, gs:// or az://"));
        }
    };
    let url = url::Url::parse(path).map_err(|e| wrong(path, e))?;
    let prefix = Path::from_url_path(url.path()).map_err(|e| wrong(path, e))?;
    Ok(Location::Objects { store, prefix })
}

fn wrong(path: &str, e: impl fmt::Display) -> Error {
    Error::script(format!("'{path}' can't be opened")).detail(e.to_string())
}

/// The environment's variables that begin with `prefix`, in lower case, then the session's settings, which win.
fn options<'a>(prefix: &'a str, session: &'a SessionInfo) -> impl Iterator<Item = (String, String)> + 'a {
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let variables = variables.filter(move |(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.to_ascii_lowercase(), v));
    variables.chain(session.storage.iter().cloned())
}

/// A store that doesn't answer fails the job soon enough for its restart strategy to matter.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::super::input::InputFile;
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    fn check_local(path: &str, expected: &str) {
        let session = SessionInfo { base_dir: "/base".into(), time_zone: "UTC".into(), storage: vec![] };
        let Location::Local(found) = open(path, &session).unwrap() else { panic!("{path} is local") };
        assert_eq!(found, PathBuf::from(expected), "{path}");
    }

    #[test]
    fn local_paths_and_file_urls_are_the_same() {
        check_local("a/b", "/base/a/b");
        check_local("/a/b", "/a/b");
        check_local("file:///a/b", "/a/b");
        check_local("file:/a/b", "/a/b");
    }

    #[test]
    fn an_url_names_a_bucket_and_a_prefix_and_an_unknown_scheme_is_told() {
        let storage = vec![("aws_endpoint".to_string(), "http://127.0.0.1:1".to_string())];
        let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage };
        for path in ["s3://bucket/a/b", "s3a://bucket/a/b/"] {
            let Location::Objects { prefix, store } = open(path, &session).unwrap() else { panic!("{path}") };
            assert_eq!(prefix.as_ref(), "a/b");
            assert!(store.to_string().contains("bucket"), "{store}");
        }
        let error = open("s4://bucket/a", &session).expect_err("no such scheme").to_string();
        assert!(error.contains("s4://") && error.contains("s3://"), "{error}");
    }

    /// Answers any request for an object with `hello`, and keeps connections open.
    fn serve(connection: std::net::TcpStream) {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            let body = if line.starts_with("HEAD") { "" } else { "hello" };
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
            let range = if body.is_empty() { "200 OK" } else { "206 Partial Content\r\nContent-Range: bytes 0-4/5" };
            let head = format!("HTTP/1.1 {range}\r\nETag: \"1\"\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT");
            write!(reader.get_mut(), "{head}\r\nContent-Length: 5\r\n\r\n{body}").unwrap();
            line.clear();
        }
    }

    #[test]
    fn a_connection_is_of_use_to_all_who_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || listener.incoming().for_each(|c| drop(std::thread::spawn(|| serve(c.unwrap())))));
        let storage = [("endpoint", endpoint.as_str()), ("allow_http", "true"), ("skip_signature", "true")];
        let storage = storage.map(|(k, v)| (format!("aws_{k}"), v.to_string())).to_vec();
        let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage };
        let location = open("s3://bucket/a", &session).unwrap();
        let file = InputFile { path: "a/b".into(), size: 5, modified_ms: 0 };
        // Each finds the connection that the one before left open; none of them is being read meanwhile.
        let mut opened: Vec<_> = (0..3).map(|_| location.open(&file).unwrap()).collect();
        for file in &mut opened {
            let mut bytes = vec![];
            file.read_at(0, 5, &mut bytes).unwrap();
            assert_eq!(bytes, b"hello");
        }
    }
}
