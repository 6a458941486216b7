# The address of the index with its password. Its value is added outside of Terraform, so that no state holds it:
#   printf %s 'mongodb://…' | gcloud secrets versions add NAME-index --data-file=-
resource "google_secret_manager_secret" "index" {
  secret_id = "${var.name}-index"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_iam_member" "index" {
  for_each  = toset(["index", "api", "expire"])
  secret_id = google_secret_manager_secret.index.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.part[each.value].member
}
