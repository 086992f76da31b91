//! The role that a rollout acts with, where none is named.

/// Its name in each account: the stack of packaging/cloudformation makes it.
pub const NAME: &str = "HostAgent-Rollout";

/// ARN of the role in an account. `partition` is `aws`, `aws-cn`, …; `account` has twelve digits.
pub fn of_account(partition: &str, account: &str) -> String {
    format!("arn:{partition}:iam::{account}:role/{NAME}")
}

/// ARN of the role in the account and partition of a caller, by the caller's own ARN: a user, a role's session, the root
/// user. `None` for what is no such ARN.
pub fn of_caller(arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam" | "sts", "", account, _] = parts[..] else { return None };
    let known = partition == "aws" || partition.starts_with("aws-");
    let plain = partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    (known && plain && digits).then(|| of_account(partition, account))
}

/// Whether the runbook takes a text as a role.
pub fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", _, "iam", "", _, role] = parts[..] else { return false };
    let name = role.strip_prefix("role/").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_/-".contains(c);
    of_caller(text).is_some() && (1..=512).contains(&name.len()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_the_role_is_in_their_account_and_partition() {
        for (caller, role) in [
            ("arn:aws:iam::111122223333:user/ops/engineer", "arn:aws:iam::111122223333:role/HostAgent-Rollout"),
            ("arn:aws:sts::111122223333:assumed-role/Admin/a:b", "arn:aws:iam::111122223333:role/HostAgent-Rollout"),
            ("arn:aws-cn:iam::111122223333:root", "arn:aws-cn:iam::111122223333:role/HostAgent-Rollout"),
            ("arn:aws-us-gov:sts::1:federated-user/x", ""),
            ("arn:aws:ssm::111122223333:document/x", ""),
            ("arn:{aws}:iam::111122223333:root", ""),
            ("111122223333", ""),
            ("", ""),
        ] {
            assert_eq!(of_caller(caller).unwrap_or_default(), role, "{caller}");
        }
    }

    #[test]
    fn a_role_is_what_the_runbook_takes_for_one() {
        for good in
            ["arn:aws:iam::111122223333:role/HostAgent-Rollout", "arn:aws-cn:iam::111122223333:role/a/b+c=d,e.f@g_h"]
        {
            assert!(is_role(good), "{good}");
        }
        for bad in [
            "HostAgent-Rollout",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:user/x",
            "arn:aws:sts::111122223333:assumed-role/x/y",
            "arn:aws:iam::111122223333:role/$(id)",
            "arn:aws:iam::1111:role/x",
        ] {
            assert!(!is_role(bad), "{bad}");
        }
    }
}
