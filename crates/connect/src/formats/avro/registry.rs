//! A client of Confluent's schema registry: schemas by number, and numbers of schemas.

use crate::blocking::block_on;
use millstream_core::options::Options;
use millstream_core::{Error, ErrorKind, Place, Result};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use url::Url;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const TIMEOUT: Duration = Duration::from_secs(30);

/// A registry, and what it has answered: neither schemas nor numbers ever change.
#[derive(Debug)]
pub(super) struct Registry {
    /// Where it answers, the first that does.
    urls: Vec<Url>,
    credentials: Credentials,
    client: Client,
    schemas: Mutex<HashMap<u32, String>>,
    ids: Mutex<HashMap<(String, String), u32>>,
}

enum Credentials {
    None,
    Basic(String, String),
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::None => "none",
            Credentials::Basic(..) => "basic",
            Credentials::Bearer(_) => "bearer",
        })
    }
}

impl Registry {
    /// The registry that the options under `format` name.
    pub fn new(options: &Options<'_>, format: &str) -> Result<Registry> {
        let key = format!("{format}.url");
        let mut urls = vec![];
        for text in options.required(&key)?.split(',').map(str::trim) {
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            urls.push(url.ok_or_else(|| {
                options.error(&key, format!("'{text}' is no URL of a registry")).hint("such as http://localhost:8081")
            })?);
        }
        let client = Client::builder().timeout(TIMEOUT).build();
        Ok(Registry {
            credentials: credentials(options, format, urls.first())?,
            urls,
            client: client.map_err(|e| Error::internal(format!("no HTTP client can be made: {e}")))?,
            schemas: Mutex::default(),
            ids: Mutex::default(),
        })
    }

    /// The text of the schema with this number.
    pub fn schema(&self, id: u32) -> Result<String> {
        let known = |this: &Self| this.schemas.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(text) = known(self) {
            return Ok(text);
        }
        let path = ["schemas", "ids", &id.to_string()];
        let what = format!("the schema {id}");
        let answer = self.ask(Method::GET, &path, None, &what)?;
        if let Some(kind) = answer.get("schemaType").and_then(Value::as_str).filter(|kind| *kind != "AVRO") {
            return Err(Error::data(format!("the schema {id} is one of {kind}, not of Avro")));
        }
        if answer.get("references").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            return Err(Error::unsupported(format!("the schema {id}, which refers to other schemas")));
        }
        let Some(text) = answer.get("schema").and_then(Value::as_str) else {
            return Err(self.unexpected(&what, &answer));
        };
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).insert(id, text.to_string());
        Ok(text.to_string())
    }

    /// The number of a schema under a subject, which gets it as a new version if it doesn't have it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let key = (subject.to_string(), schema.to_string());
        if let Some(id) = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*id);
        }
        let body = json!({"schema": schema}).to_string();
        let what = format!("the number of the schema of subject '{subject}'");
        let answer = self.ask(Method::POST, &["subjects", subject, "versions"], Some(body), &what)?;
        let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| self.unexpected(&what, &answer))?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(key, id);
        Ok(id)
    }

    /// The answer of the first URL that answers.
    fn ask(&self, method: Method, path: &[&str], body: Option<String>, what: &str) -> Result<Value> {
        let mut failed = vec![];
        for url in &self.urls {
            match self.ask_one(url, method.clone(), path, body.clone())? {
                Ok((status, text)) if status.is_success() => {
                    return serde_json::from_str(&text).map_err(|_| self.unexpected(what, &Value::String(text)));
                }
                Ok((status, text)) if status.is_server_error() => failed.push(format!("{status}: {}", message(&text))),
                Ok((status, text)) => return Err(self.refused(what, status, &text)),
                Err(e) => failed.push(chain(&e)),
            }
        }
        let error = Error::new(ErrorKind::Retry, format!("the schema registry doesn't answer for {what}"));
        Err(failed.into_iter().fold(error.at(self.place()), Error::detail))
    }

    fn ask_one(
        &self,
        url: &Url,
        method: Method,
        path: &[&str],
        body: Option<String>,
    ) -> Result<Result<(StatusCode, String), reqwest::Error>> {
        let mut url = url.clone();
        let place = self.place();
        url.path_segments_mut()
            .map_err(|()| Error::script("the URL has no path").at(place))?
            .pop_if_empty()
            .extend(path);
        // Credentials in the URL are sent as a header.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let mut request = self.client.request(method, url).header("accept", CONTENT_TYPE);
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic(user, password) => request.basic_auth(user, Some(password)),
            Credentials::Bearer(token) => request.bearer_auth(token),
        };
        if let Some(body) = body {
            request = request.header("content-type", CONTENT_TYPE).body(body);
        }
        block_on(async {
            let response = request.send().await?;
            Ok((response.status(), response.text().await?))
        })
    }

    /// Where it is, without credentials.
    fn place(&self) -> Place {
        let hosts = self.urls.iter().map(|url| {
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
        });
        Place::Named(format!("schema registry {}", hosts.collect::<Vec<_>>().join(", ")))
    }

    fn refused(&self, what: &str, status: StatusCode, text: &str) -> Error {
        let said = message(text);
        let error = match status {
            StatusCode::NOT_FOUND => Error::data(format!("the schema registry doesn't have {what}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::data("the schema registry refuses the credentials")
                    .hint("'avro-confluent.basic-auth.user-info' is 'user:password'")
            }
            StatusCode::CONFLICT => Error::data("the table's schema is incompatible with the subject's earlier ones")
                .hint("change the columns, or the subject's compatibility in the registry"),
            _ => Error::data(format!("the schema registry refuses {what}: {status}")),
        };
        error.at(self.place()).detail(said)
    }

    fn unexpected(&self, what: &str, answer: &Value) -> Error {
        let shown: String = answer.to_string().chars().take(200).collect();
        let error = Error::data(format!("the schema registry's answer for {what} can't be read"));
        error.at(self.place()).detail(format!("the answer: {shown}"))
    }
}

fn credentials(options: &Options<'_>, format: &str, url: Option<&Url>) -> Result<Credentials> {
    let key = |name: &str| format!("{format}.{name}");
    let (user_info, token) = (key("basic-auth.user-info"), key("bearer-auth.token"));
    options.choice(&key("basic-auth.credentials-source"), &[("USER_INFO", ()), ("URL", ())])?;
    options.choice(&key("bearer-auth.credentials-source"), &[("STATIC_TOKEN", ())])?;
    if let Some(token) = options.string(&token) {
        return Ok(Credentials::Bearer(token.to_string()));
    }
    if let Some(text) = options.string(&user_info) {
        let Some((user, password)) = text.split_once(':') else {
            return Err(options.error(&user_info, format!("'{user_info}' is not 'user:password'")));
        };
        return Ok(Credentials::Basic(user.to_string(), password.to_string()));
    }
    Ok(match url {
        Some(url) if !url.username().is_empty() => {
            Credentials::Basic(url.username().to_string(), url.password().unwrap_or_default().to_string())
        }
        _ => Credentials::None,
    })
}

/// What an error's answer says.
fn message(text: &str) -> String {
    let json: Option<Value> = serde_json::from_str(text).ok();
    let said = json.as_ref().and_then(|json| json.get("message")).and_then(Value::as_str);
    said.unwrap_or(text).chars().take(300).collect()
}

/// An error and what it comes of, without the URL, which may have credentials.
fn chain(error: &reqwest::Error) -> String {
    let mut parts = vec![];
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        parts.push(e.to_string());
        source = e.source();
    }
    if parts.is_empty() { "no answer".into() } else { parts.join(": ") }
}
