//! Connections to a PostgreSQL database, and what its errors mean.

use millstream_core::{Error, Result};
use std::fmt;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// The port if the URL has none.
const PORT: u16 = 5432;

/// A database and who wants to see it.
#[derive(Clone)]
pub(super) struct Database {
    config: Config,
    /// Host, port and name, for people.
    shown: String,
}

impl fmt::Debug for Database {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({}, user {:?})", self.shown, self.config.get_user())
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Database {
    /// The database that a URL such as `jdbc:postgresql://host:5432/name` names; connecting may take `timeout`.
    pub(super) fn new(
        url: &str,
        user: Option<&str>,
        password: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        let example = "a URL is written as jdbc:postgresql://host:5432/database";
        let Some(rest) = url.strip_prefix("jdbc:") else {
            return Err(Error::script(format!("'{url}' is no JDBC URL")).hint(example));
        };
        if !rest.starts_with("postgresql:") {
            let kind = rest.split(':').next().unwrap_or_default();
            return Err(Error::unsupported(format!("a database of kind '{kind}'"))
                .detail("PostgreSQL is the only one so far")
                .hint(example));
        }
        let parsed = url::Url::parse(rest).map_err(|e| Error::script(format!("'{url}': {e}")).hint(example))?;
        let database = parsed.path().trim_start_matches('/');
        let (Some(host), false) = (parsed.host_str(), database.is_empty() || database.contains('/')) else {
            return Err(Error::script(format!("'{url}' doesn't name a host and a database")).hint(example));
        };
        let port = parsed.port().unwrap_or(PORT);
        let mut config = Config::new();
        config.host(host).port(port).dbname(database).ssl_mode(SslMode::Disable).application_name("millstream");
        config.options("-c TimeZone=UTC -c DateStyle=ISO").connect_timeout(timeout.unwrap_or(Duration::from_secs(60)));
        let (mut user, mut password) = (user.map(str::to_string), password.map(str::to_string));
        for (key, value) in parsed.query_pairs() {
            match (key.as_ref(), value.as_ref()) {
                ("user", value) => user = user.or_else(|| Some(value.to_string())),
                ("password", value) => password = password.or_else(|| Some(value.to_string())),
                ("ssl", "false") | ("sslmode", "disable" | "allow" | "prefer") => {}
                ("ssl" | "sslmode", _) => {
                    return Err(Error::unsupported("an encrypted connection to a database")
                        .hint("leave 'ssl' and 'sslmode' out, or go through a tunnel"));
                }
                ("currentSchema", schema) => {
                    let of_path =
                        format!("-c TimeZone=UTC -c DateStyle=ISO -c search_path={}", schema.replace(' ', "\\ "));
                    config.options(of_path);
                }
                (other, _) => return Err(Error::unsupported(format!("the parameter '{other}' of a JDBC URL"))),
            }
        }
        if let Some(user) = user {
            config.user(user);
        }
        if let Some(password) = password {
            config.password(password);
        }
        Ok(Database { config, shown: format!("{host}:{port}/{database}") })
    }

    /// A connection; within a runtime of tokio's, on which it then works beside.
    pub(super) async fn connect(&self) -> Result<Client> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(|e| self.error(&e))?;
        tokio::spawn(async move {
            // What fails is told to whoever asks.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// What went wrong: the database is away, or will never do what it is asked.
    pub(super) fn error(&self, error: &tokio_postgres::Error) -> Error {
        let Some(of_database) = error.as_db_error() else {
            let mut reason = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(deeper) = cause {
                reason = format!("{reason}: {deeper}");
                cause = deeper.source();
            }
            return Error::retry(format!("the database {self} doesn't answer")).detail(reason);
        };
        let code = of_database.code();
        let message = format!("the database {self} says: {}", of_database.message());
        // Connections, transactions, resources, shutdown.
        let may_heal = ["08", "25", "40", "53", "55", "57", "58"].iter().any(|class| code.code().starts_with(class));
        let mut told = if may_heal { Error::retry(message) } else { Error::data(message) };
        told = told.detail(format!("SQLSTATE {}", code.code()));
        if let Some(detail) = of_database.detail() {
            told = told.detail(detail);
        }
        match *code {
            SqlState::UNDEFINED_TABLE => told.hint("'table-name' names a table, with its schema if need be"),
            SqlState::UNDEFINED_COLUMN => told.hint("the columns are called as in the database, regardless of case"),
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                told.hint("check 'username' and 'password'")
            }
            _ => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<&str, &str>) {
        match (Database::new(url, None, None, None), expected) {
            (Ok(database), Ok(expected)) => assert_eq!(database.to_string(), expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_url_names_host_port_and_database() {
        check("jdbc:postgresql://db.example/shop", Ok("db.example:5432/shop"));
        check("jdbc:postgresql://127.0.0.1:6000/shop?user=a&sslmode=disable", Ok("127.0.0.1:6000/shop"));
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        check("postgresql://h/d", Err("is no JDBC URL"));
        check("jdbc:mysql://h/d", Err("a database of kind 'mysql'"));
        check("jdbc:postgresql://h", Err("doesn't name a host and a database"));
        check("jdbc:postgresql://h/d?ssl=true", Err("an encrypted connection"));
        check("jdbc:postgresql://h/d?loglevel=2", Err("the parameter 'loglevel'"));
    }

    #[test]
    fn nobody_sees_the_password() {
        let database = Database::new("jdbc:postgresql://h/d", Some("me"), Some("secret"), None).unwrap();
        assert!(!format!("{database:?} {database}").contains("secret"));
    }
}
