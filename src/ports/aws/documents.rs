//! SSM documents in an account, and the association that runs one on a schedule.

use super::{AwsError, ErrorKind, Result, failed, incomplete};
use crate::facts::{StoredDocument, Targets};
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    types::{
        self, AssociationComplianceSeverity, AssociationFilter, AssociationFilterKey, DocumentFormat, DocumentType,
        ResourceTypeForTagging, Tag, Target,
    },
};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct Documents(Client);

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Command,
    Automation,
}

/// An association to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association<'a> {
    /// Identifies it: one of a name is kept.
    pub name: &'a str,
    pub document: &'a str,
    /// A tag or instances: a cluster is no target of State Manager.
    pub targets: &'a Targets,
    pub parameters: BTreeMap<String, Vec<String>>,
    /// `rate(30 minutes)`, or a cron expression of SSM.
    pub schedule: &'a str,
    pub at_once: &'a str,
    pub errors: &'a str,
}

impl Documents {
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    /// The default version of a document of this account, with its tags; `None` when there is none.
    pub async fn stored(&self, name: &str) -> Result<Option<StoredDocument>> {
        let Some((content, version)) = self.content(name, "$DEFAULT").await? else { return Ok(None) };
        const DESCRIBE: &str = "ssm:DescribeDocument";
        let described = self.0.describe_document().name(name).send().await.map_err(failed(DESCRIBE, name))?;
        let described = described.document.ok_or_else(|| incomplete(DESCRIBE, "document"))?;
        let latest = described.latest_version.unwrap_or_default();
        Ok(Some(StoredDocument { content, version, latest, tags: self.tags(name).await? }))
    }

    async fn tags(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let request = self.0.list_tags_for_resource().resource_type(ResourceTypeForTagging::Document);
        let answer = request.resource_id(name).send().await.map_err(failed("ssm:ListTagsForResource", name))?;
        Ok(answer.tag_list().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }

    /// Content and number of a version; `None` when there is no such document or version.
    async fn content(&self, name: &str, version: &str) -> Result<Option<(String, String)>> {
        const ACTION: &str = "ssm:GetDocument";
        let request = self.0.get_document().name(name).document_version(version);
        // As it was written; without a format SSM gives it as JSON.
        let answer = match request.document_format(DocumentFormat::Yaml).send().await.map_err(failed(ACTION, name)) {
            Ok(answer) => answer,
            Err(AwsError { kind: ErrorKind::Missing, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let content = answer.content.ok_or_else(|| incomplete(ACTION, "content"))?;
        Ok(Some((content, answer.document_version.unwrap_or_default())))
    }

    /// Creates a document; its first version is its default.
    pub async fn create(&self, name: &str, kind: Kind, content: &str, tags: &[(&str, &str)]) -> Result<()> {
        const ACTION: &str = "ssm:CreateDocument";
        let kind = match kind {
            Kind::Command => DocumentType::Command,
            Kind::Automation => DocumentType::Automation,
        };
        let request = self.0.create_document().name(name).document_type(kind);
        let request = request.document_format(DocumentFormat::Yaml).content(content).set_tags(Some(to_tags(tags)?));
        request.send().await.map_err(failed(ACTION, name))?;
        Ok(())
    }

    /// Makes a new version; its number, or that of the last version that has this content already.
    pub async fn update(&self, name: &str, content: &str, latest: &str) -> Result<String> {
        const ACTION: &str = "ssm:UpdateDocument";
        let request = self.0.update_document().name(name).document_format(DocumentFormat::Yaml);
        let request = request.content(content).document_version("$LATEST");
        match request.send().await.map_err(failed(ACTION, name)) {
            Ok(answer) => {
                let version = answer.document_description.and_then(|d| d.document_version);
                version.ok_or_else(|| incomplete(ACTION, "version"))
            }
            // Not made again, then. The latest has it where only the default was set back; an older one where somebody's
            // own version came after it.
            Err(error @ AwsError { kind: ErrorKind::Exists, .. }) => {
                for version in (1..=latest.parse::<u32>().unwrap_or_default()).rev() {
                    match self.content(name, &version.to_string()).await? {
                        Some((same, version)) if same == content => return Ok(version),
                        _ => {}
                    }
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a version the default one.
    pub async fn set_default(&self, name: &str, version: &str) -> Result<()> {
        let request = self.0.update_document_default_version().name(name).document_version(version);
        request.send().await.map_err(failed("ssm:UpdateDocumentDefaultVersion", name))?;
        Ok(())
    }

    /// Sets tags; others stay.
    pub async fn tag(&self, name: &str, tags: &[(&str, &str)]) -> Result<()> {
        let request = self.0.add_tags_to_resource().resource_type(ResourceTypeForTagging::Document);
        let request = request.resource_id(name).set_tags(Some(to_tags(tags)?));
        request.send().await.map_err(failed("ssm:AddTagsToResource", name))?;
        Ok(())
    }

    /// Removes a document with all its versions; `false` when there was none.
    pub async fn delete(&self, name: &str) -> Result<bool> {
        match self.0.delete_document().name(name).send().await.map_err(failed("ssm:DeleteDocument", name)) {
            Ok(_) => Ok(true),
            Err(AwsError { kind: ErrorKind::Missing, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates the association, or brings the one of its name to what it should be; `true` when it is new.
    pub async fn associate(&self, wanted: &Association<'_>) -> Result<bool> {
        let targets = vec![target(wanted.targets)?];
        let severity = AssociationComplianceSeverity::Medium;
        let known = self.associations(wanted.document).await?;
        if let Some((_, id)) = known.into_iter().find(|(name, _)| name == wanted.name) {
            let request = self.0.update_association().association_id(id).association_name(wanted.name);
            let request =
                request.name(wanted.document).document_version("$DEFAULT").schedule_expression(wanted.schedule);
            let request = request.max_concurrency(wanted.at_once).max_errors(wanted.errors);
            let request = request.compliance_severity(severity).set_targets(Some(targets));
            let request = request.set_parameters(Some(wanted.parameters.clone().into_iter().collect()));
            request.send().await.map_err(failed("ssm:UpdateAssociation", wanted.name))?;
            return Ok(false);
        }
        let request = self.0.create_association().association_name(wanted.name);
        let request = request.name(wanted.document).document_version("$DEFAULT").schedule_expression(wanted.schedule);
        let request = request.max_concurrency(wanted.at_once).max_errors(wanted.errors);
        let request = request.compliance_severity(severity).set_targets(Some(targets));
        let request = request.set_parameters(Some(wanted.parameters.clone().into_iter().collect()));
        request.send().await.map_err(failed("ssm:CreateAssociation", wanted.name))?;
        Ok(true)
    }

    /// Removes an association; none there is fine.
    pub async fn dissociate(&self, name: &str, id: &str) -> Result<()> {
        match self.0.delete_association().association_id(id).send().await.map_err(failed("ssm:DeleteAssociation", name))
        {
            Ok(_) | Err(AwsError { kind: ErrorKind::Missing, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Name and ID of the associations of a document that have a name.
    pub async fn associations(&self, document: &str) -> Result<Vec<(String, String)>> {
        const ACTION: &str = "ssm:ListAssociations";
        let filter = AssociationFilter::builder().key(AssociationFilterKey::Name).value(document).build();
        let filter = filter.map_err(|error| incomplete(ACTION, &error.to_string()))?;
        let mut pages = self.0.list_associations().association_filter_list(filter).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed(ACTION, document))?;
            let named =
                |one: &types::Association| Some((one.association_name()?.to_owned(), one.association_id()?.to_owned()));
            found.extend(page.associations().iter().filter_map(named));
        }
        Ok(found)
    }
}

fn target(targets: &Targets) -> Result<Target> {
    Ok(match targets {
        Targets::Tag { key, value } => Target::builder().key(format!("tag:{key}")).values(value).build(),
        Targets::Instances(ids) => Target::builder().key("InstanceIds").set_values(Some(ids.clone())).build(),
        Targets::Cluster(name) => {
            let why = format!("cluster {name} is no target of State Manager");
            let remedy = "give --tag, with a tag that all its instances have".to_owned();
            let kind = ErrorKind::Invalid;
            return Err(AwsError { action: "ssm:CreateAssociation", about: String::new(), kind, why, remedy });
        }
    })
}

fn to_tags(tags: &[(&str, &str)]) -> Result<Vec<Tag>> {
    let tag = |(key, value): &(&str, &str)| Tag::builder().key(*key).value(*value).build();
    let tags: std::result::Result<_, _> = tags.iter().map(tag).collect();
    tags.map_err(|error| incomplete("ssm:AddTagsToResource", &error.to_string()))
}
