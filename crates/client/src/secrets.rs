//! Reading and uploading secrets.

use std::collections::BTreeMap;

use marblerun_api::rest::{
    Secret, SecretsAnswer, UserSecretValue, encode_secret_names, set_secrets_body_v1, set_secrets_body_v2, v1, v2,
};
use marblerun_json::RawJson;

use crate::client::{ApiVersion, Client};
use crate::error::ClientError;

impl Client {
    /// Reads secrets. The client must be that of a user who may read all of them, see [`Client::with_certificate`].
    ///
    /// A user-defined secret that was never uploaded has no value.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; with one name that may not be read there is none at all.
    ///
    /// ```no_run
    /// # async fn example(client: marblerun_client::Client) -> Result<(), marblerun_client::ClientError> {
    /// let secrets = client.secrets(["api-token"]).await?;
    /// let token = secrets.get("api-token").and_then(|secret| secret.private.as_ref());
    /// println!("{} bytes", token.map_or(0, |value| value.len()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn secrets<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Secret>, ClientError> {
        let query = encode_secret_names(names);
        let answer = self.call_with_query("GET", [v2::SECRETS, v1::SECRETS], &query, Default::default).await?;
        match answer.version {
            ApiVersion::V2 => Ok(self.decode::<SecretsAnswer>("GET", &answer)?.secrets),
            ApiVersion::V1 => self.decode("GET", &answer),
        }
    }

    /// Uploads user-defined secrets: all of them or none. The client must be that of a user who may write them.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    ///
    /// ```no_run
    /// # async fn example(client: marblerun_client::Client) -> Result<(), marblerun_client::ClientError> {
    /// use marblerun_client::{SecretBytes, UserSecretValue};
    ///
    /// let token = UserSecretValue { key: Some(SecretBytes::copy_from(b"hello")), ..UserSecretValue::default() };
    /// client.set_secrets(&[("api-token".to_owned(), token)].into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_secrets(&self, secrets: &BTreeMap<String, UserSecretValue>) -> Result<(), ClientError> {
        let bodies = || [set_secrets_body_v2(secrets), set_secrets_body_v1(secrets)];
        let answer = self.call_either("POST", [v2::SECRETS, v1::SECRETS], bodies).await?;
        self.decode::<RawJson>("POST", &answer).map(drop)
    }
}
