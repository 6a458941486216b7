# Persist on Dataflow, where image and template are named. It writes the metadata topic, so its workers need no secret.
locals {
  on_dataflow = var.image != null && var.template != null
}

resource "google_project_iam_member" "worker" {
  count   = local.on_dataflow ? 1 : 0
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.part["persist"].member
}

resource "google_storage_bucket_iam_member" "staging" {
  count  = local.on_dataflow ? 1 : 0
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectUser"
  member = google_service_account.part["persist"].member
}

# The API launches large resubmissions there.
resource "google_project_iam_member" "launcher" {
  count   = local.on_dataflow ? 1 : 0
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.part["api"].member
}

resource "google_service_account_iam_member" "launcher" {
  count              = local.on_dataflow ? 1 : 0
  service_account_id = google_service_account.part["persist"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.part["api"].member
}

resource "google_dataflow_flex_template_job" "persist" {
  count                   = local.on_dataflow ? 1 : 0
  provider                = google-beta
  name                    = "${var.name}-persist"
  region                  = var.region
  container_spec_gcs_path = var.template
  on_delete               = "drain"

  service_account_email   = google_service_account.part["persist"].email
  max_workers             = var.max_workers
  subnetwork              = var.subnetwork
  ip_configuration        = var.subnetwork == null ? "WORKER_IP_PUBLIC" : "WORKER_IP_PRIVATE"
  enable_streaming_engine = true
  staging_location        = "gs://${google_storage_bucket.staging.name}/staging"
  temp_location           = "gs://${google_storage_bucket.staging.name}/temp"

  parameters = {
    command             = "persist"
    sdk_container_image = var.image
    source              = "pubsub://${var.project}/${join(",", [for one in google_pubsub_subscription.source : one.name])}"
    lake                = "gs://${google_storage_bucket.lake.name}/${var.lake_prefix}"
    metadata            = "pubsub://${var.project}/${google_pubsub_topic.own["metadata"].name}"
    dead_letter         = "pubsub://${var.project}/${google_pubsub_topic.own["dead-letters"].name}"
    shards              = var.shards
  }

  depends_on = [
    google_project_iam_member.worker,
    google_storage_bucket_iam_member.staging,
    google_storage_bucket_iam_member.lake,
    google_pubsub_subscription_iam_member.reads,
    google_pubsub_subscription_iam_member.looks,
    google_pubsub_topic_iam_member.publishes,
    google_pubsub_topic_iam_member.looks,
  ]
}
