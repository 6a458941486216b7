data "google_pubsub_topic" "source" {
  for_each = var.topics
  name     = each.value
}

resource "google_pubsub_subscription" "source" {
  for_each                   = var.topics
  name                       = "${each.value}-${var.name}"
  topic                      = data.google_pubsub_topic.source[each.value].id
  ack_deadline_seconds       = 600
  message_retention_duration = "604800s"
  enable_message_ordering    = true

  expiration_policy {
    ttl = ""
  }
}

# What was archived, for the index; and what could not be.
resource "google_pubsub_topic" "own" {
  for_each = toset(["metadata", "dead-letters"])
  name     = "${var.name}-${each.value}"
}

resource "google_pubsub_subscription" "own" {
  for_each                   = google_pubsub_topic.own
  name                       = each.value.name
  topic                      = each.value.id
  ack_deadline_seconds       = 600
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}
