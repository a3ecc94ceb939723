//! A file on its way to an HTTP share: PUT under a temporary name, proven, then moved to its own.

use super::{Pending, facts, move_file};
use crate::fetch::http::Upload;
use crate::fetch::{HttpClient, redacted};
use anyhow::{Context as _, bail};
use reqwest::Method;
use std::io::{self, Write};
use url::Url;

pub(super) struct HttpPending {
    http: HttpClient,
    part: Url,
    target: Url,
    upload: Option<Upload>,
    moved: bool,
}

impl HttpPending {
    pub fn begin(http: &HttpClient, part: Url, target: Url) -> anyhow::Result<Self> {
        let upload = http.upload(&part)?;
        Ok(Self {
            http: http.clone(),
            part,
            target,
            upload: Some(upload),
            moved: false,
        })
    }

    fn upload(&mut self) -> io::Result<&mut Upload> {
        self.upload
            .as_mut()
            .ok_or_else(|| io::Error::other("the upload has ended"))
    }
}

impl Write for HttpPending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.upload()?.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload()?.flush()
    }
}

impl Pending for HttpPending {
    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        let upload = self.upload.take().context("the upload has ended")?;
        let written = upload.written();
        let response = upload.finish()?;
        if !response.status().is_success() {
            bail!(response.refusal());
        }
        drop(response);
        let shown = redacted(&self.part);
        match facts(&self.http, &self.part)? {
            Some(facts) if facts.size == written => {}
            Some(facts) => bail!(
                "{shown}: {written} bytes were sent, but the server holds {}",
                facts.size
            ),
            None => bail!("{shown}: the server took it, but does not have it"),
        }
        move_file(&self.http, &self.part, &self.target)?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for HttpPending {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        // First the connection, then the file: the server may still be writing.
        self.upload = None;
        // Best effort: the error that led here is the one to report, and the next upload replaces the rest.
        let _ = self.http.request(Method::DELETE, &self.part).send();
    }
}
