# The same dashboard, monitors, pipeline and metrics as `policy-gateway datadog … --apply` makes, from the same files.
# Use one or the other: neither knows what the other made.

terraform {
  required_version = ">= 1.5"
  required_providers {
    datadog = {
      source  = "DataDog/datadog"
      version = ">= 3.50"
    }
  }
}

variable "service" {
  description = "The `service` of the destination."
  type        = string
  default     = "policy-gateway"
}

locals {
  search   = "service:${var.service}"
  monitors = jsondecode(replace(file("${path.module}/monitors.json"), "service:policy-gateway", local.search))
  metrics  = jsondecode(replace(file("${path.module}/metrics.json"), "service:policy-gateway", local.search))
}

resource "datadog_dashboard_json" "policy_gateway" {
  dashboard = replace(file("${path.module}/dashboard.json"), "service:policy-gateway", local.search)
}

resource "datadog_monitor_json" "policy_gateway" {
  for_each = { for monitor in local.monitors : monitor.name => monitor }
  monitor  = jsonencode(each.value)
}

resource "datadog_logs_metric" "policy_gateway" {
  for_each = { for metric in local.metrics : metric.data.id => metric.data.attributes }
  name     = each.key
  compute {
    aggregation_type    = each.value.compute.aggregation_type
    path                = lookup(each.value.compute, "path", null)
    include_percentiles = lookup(each.value.compute, "include_percentiles", null)
  }
  filter {
    query = each.value.filter.query
  }
  dynamic "group_by" {
    for_each = each.value.group_by
    content {
      path     = group_by.value.path
      tag_name = group_by.value.tag_name
    }
  }
}
