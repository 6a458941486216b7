data "google_storage_project_service_account" "storage" {}

resource "google_kms_key_ring" "lake" {
  name     = "${var.name}-lake"
  location = var.region
}

resource "google_kms_crypto_key" "lake" {
  name            = "lake"
  key_ring        = google_kms_key_ring.lake.id
  rotation_period = "7776000s"

  # Without it nothing in the lake can be read again.
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "storage" {
  crypto_key_id = google_kms_crypto_key.lake.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = data.google_storage_project_service_account.storage.member
}

resource "google_storage_bucket" "lake" {
  name                        = "${var.project}-${var.name}-lake"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  encryption {
    default_kms_key_name = google_kms_crypto_key.lake.id
  }

  soft_delete_policy {
    retention_duration_seconds = var.undelete_days * 86400
  }

  # Retention is `persistor expire`, which clears the index first. This is for what it could not delete. Only the
  # folders of topics are named, so that claims and jobs in _persistor/ are left alone.
  dynamic "lifecycle_rule" {
    for_each = var.expire_after_days == null ? [] : [var.expire_after_days + var.backstop_days]
    content {
      action {
        type = "Delete"
      }
      condition {
        age            = lifecycle_rule.value
        matches_prefix = [for topic in var.topics : "${var.lake_prefix}/${topic}/"]
      }
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_storage_bucket" "staging" {
  name                        = "${var.project}-${var.name}-staging"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  encryption {
    default_kms_key_name = google_kms_crypto_key.lake.id
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 30
      matches_prefix = ["temp/"]
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]
}
