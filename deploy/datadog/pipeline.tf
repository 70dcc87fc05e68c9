# The pipeline of pipeline.json: Terraform has no resource that takes it as JSON, so its processors are read one kind at a
# time. Their order does not matter: none reads what another writes.

locals {
  pipeline   = jsondecode(replace(file("${path.module}/pipeline.json"), "service:policy-gateway", local.search))
  processors = local.pipeline.processors
}

resource "datadog_logs_custom_pipeline" "policy_gateway" {
  name        = local.pipeline.name
  description = local.pipeline.description
  tags        = local.pipeline.tags
  is_enabled  = local.pipeline.is_enabled
  filter {
    query = local.pipeline.filter.query
  }
  dynamic "processor" {
    for_each = [for one in local.processors : one if one.type == "attribute-remapper"]
    content {
      attribute_remapper {
        name                 = processor.value.name
        is_enabled           = processor.value.is_enabled
        sources              = processor.value.sources
        source_type          = processor.value.source_type
        target               = processor.value.target
        target_type          = processor.value.target_type
        target_format        = processor.value.target_format
        preserve_source      = processor.value.preserve_source
        override_on_conflict = processor.value.override_on_conflict
      }
    }
  }
  dynamic "processor" {
    for_each = [for one in local.processors : one if one.type == "arithmetic-processor"]
    content {
      arithmetic_processor {
        name               = processor.value.name
        is_enabled         = processor.value.is_enabled
        expression         = processor.value.expression
        target             = processor.value.target
        is_replace_missing = processor.value.is_replace_missing
      }
    }
  }
  dynamic "processor" {
    for_each = [for one in local.processors : one if one.type == "category-processor"]
    content {
      category_processor {
        name       = processor.value.name
        is_enabled = processor.value.is_enabled
        target     = processor.value.target
        dynamic "category" {
          for_each = processor.value.categories
          content {
            name = category.value.name
            filter {
              query = category.value.filter.query
            }
          }
        }
      }
    }
  }
}
