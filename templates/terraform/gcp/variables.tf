variable "project" {
  description = "Project that everything is made in."
  type        = string
}

variable "region" {
  description = "Region of bucket, keys and jobs, such as europe-west3."
  type        = string
}

variable "name" {
  description = "Begins the name of everything that is made."
  type        = string
  default     = "persistor"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,14}$", var.name))
    error_message = "Write 3 to 15 small letters, digits and dashes: service accounts have short names."
  }
}

variable "topics" {
  description = "Existing Pub/Sub topics of this project that are archived; each gets a subscription of its own."
  type        = set(string)

  validation {
    condition     = length(var.topics) > 0
    error_message = "Name at least one topic."
  }
}

variable "destinations" {
  description = "Existing Pub/Sub topics of this project that resubmissions may send to."
  type        = set(string)
  default     = []
}

variable "lake_prefix" {
  description = "Folder of the bucket that is the lake: gs://BUCKET/PREFIX."
  type        = string
  default     = "lake"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_./-]*[A-Za-z0-9]$", var.lake_prefix))
    error_message = "Write a path without a slash at its ends."
  }
}

variable "expire_after_days" {
  description = "Age at which `persistor expire --before DAYSd`, run daily, deletes messages; null keeps all for ever."
  type        = number
  default     = null

  validation {
    condition     = try(var.expire_after_days >= 1 && floor(var.expire_after_days) == var.expire_after_days, var.expire_after_days == null)
    error_message = "Write at least 1 whole day, or null to keep all for ever."
  }
}

variable "backstop_days" {
  description = "Days behind expire_after_days at which the bucket deletes files that expire has left for any reason."
  type        = number
  default     = 30

  validation {
    condition     = var.backstop_days >= 7
    error_message = "The index must be cleared first: leave `persistor expire` at least 7 days."
  }
}

variable "undelete_days" {
  description = "Days for which what was deleted can be brought back."
  type        = number
  default     = 7

  validation {
    condition     = var.undelete_days == 0 || (var.undelete_days >= 7 && var.undelete_days <= 90)
    error_message = "The store takes 0, or 7 to 90 days."
  }
}

variable "image" {
  description = "The workers' image, target worker of templates/Dockerfile; null runs nothing on Dataflow."
  type        = string
  default     = null
}

variable "template" {
  description = "gs:// address of templates/dataflow/persist.json."
  type        = string
  default     = null
}

variable "shards" {
  description = "Parts into which Dataflow divides the subscriptions; stays what it was at the job's first start."
  type        = number
  default     = 16
}

variable "max_workers" {
  description = "Workers that Dataflow may use."
  type        = number
  default     = 4
}

variable "subnetwork" {
  description = "Address of the workers' subnetwork, regions/REGION/subnetworks/NAME, with private access to Google's services."
  type        = string
  default     = null
}
