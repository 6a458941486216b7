# One account for each part, with what that part does and nothing else.
locals {
  parts = {
    persist = "Archives: reads subscriptions, adds to the lake"
    index   = "Keeps the index: reads the metadata topic"
    api     = "Searches and resubmits: reads the lake, keeps its jobs in it, publishes"
    expire  = "Deletes what is too old"
  }

  bucket = "projects/_/buckets/${google_storage_bucket.lake.name}"

  # Objects that jobs of resubmission keep and delete again.
  jobs = "resource.name.startsWith(\"${local.bucket}/objects/${var.lake_prefix}/_persistor/\")"

  lake_roles = {
    persist-reads = { part = "persist", role = "roles/storage.objectViewer", condition = null }
    persist-adds  = { part = "persist", role = "roles/storage.objectCreator", condition = null }
    api-reads     = { part = "api", role = "roles/storage.objectViewer", condition = null }
    api-jobs      = { part = "api", role = "roles/storage.objectUser", condition = local.jobs }
    expire        = { part = "expire", role = "roles/storage.objectUser", condition = null }
  }

  subscriptions = merge(
    { for topic in var.topics : "persist-${topic}" => {
      part         = "persist"
      subscription = google_pubsub_subscription.source[topic].name
    } },
    { index = { part = "index", subscription = google_pubsub_subscription.own["metadata"].name } },
  )

  publishers = merge(
    {
      persist-metadata = { part = "persist", topic = google_pubsub_topic.own["metadata"].name }
      persist-dead     = { part = "persist", topic = google_pubsub_topic.own["dead-letters"].name }
      index-dead       = { part = "index", topic = google_pubsub_topic.own["dead-letters"].name }
    },
    { for topic in var.destinations : "api-${topic}" => { part = "api", topic = topic } },
  )
}

resource "google_service_account" "part" {
  for_each     = local.parts
  account_id   = "${var.name}-${each.key}"
  display_name = each.value
}

resource "google_storage_bucket_iam_member" "lake" {
  for_each = local.lake_roles
  bucket   = google_storage_bucket.lake.name
  role     = each.value.role
  member   = google_service_account.part[each.value.part].member

  dynamic "condition" {
    for_each = each.value.condition == null ? [] : [each.value.condition]
    content {
      title      = "Jobs only"
      expression = condition.value
    }
  }
}

resource "google_pubsub_subscription_iam_member" "reads" {
  for_each     = local.subscriptions
  subscription = each.value.subscription
  role         = "roles/pubsub.subscriber"
  member       = google_service_account.part[each.value.part].member
}

resource "google_pubsub_subscription_iam_member" "looks" {
  for_each     = local.subscriptions
  subscription = each.value.subscription
  role         = "roles/pubsub.viewer"
  member       = google_service_account.part[each.value.part].member
}

resource "google_pubsub_topic_iam_member" "publishes" {
  for_each = local.publishers
  topic    = each.value.topic
  role     = "roles/pubsub.publisher"
  member   = google_service_account.part[each.value.part].member
}

resource "google_pubsub_topic_iam_member" "looks" {
  for_each = local.publishers
  topic    = each.value.topic
  role     = "roles/pubsub.viewer"
  member   = google_service_account.part[each.value.part].member
}
