output "lake" {
  description = "The setting lake of every command."
  value       = "gs://${google_storage_bucket.lake.name}/${var.lake_prefix}"
}

output "source" {
  description = "The setting source of persist."
  value       = "pubsub://${var.project}/${join(",", [for one in google_pubsub_subscription.source : one.name])}"
}

output "metadata" {
  description = "The setting metadata of index: its subscription has the topic's name."
  value       = "pubsub://${var.project}/${google_pubsub_subscription.own["metadata"].name}"
}

output "service_accounts" {
  description = "The account of each part."
  value       = { for part, account in google_service_account.part : part => account.email }
}

output "index_secret" {
  description = "The secret that the address of the index is added to."
  value       = google_secret_manager_secret.index.secret_id
}

output "expire" {
  description = "What is to be run daily; null where nothing expires."
  value = var.expire_after_days == null ? null : join(" ", [
    "persistor expire --yes --before ${var.expire_after_days}d",
    "--lake gs://${google_storage_bucket.lake.name}/${var.lake_prefix} --index INDEX",
  ])
}
