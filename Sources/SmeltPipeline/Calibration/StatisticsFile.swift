// Statistics of any form, read for a model.

import SmeltContainers
package import SmeltModels
package import SmeltQuantization
import SmeltStorage

/// Reads statistics of any form, known by their first bytes, and checks that they belong to a model. Values stay in the
/// mapping until they are asked for.
/// - Throws: `STAT_FORMAT`, `STAT_MISMATCH`.
package func readStatistics(_ path: String, for model: Model) throws -> Statistics {
  try readStatistics(path, for: model.family)
}

/// Reads statistics of any form and checks that they belong to an architecture.
/// - Throws: `STAT_FORMAT`, `STAT_MISMATCH`.
package func readStatistics(_ path: String, for family: any ModelFamily) throws -> Statistics {
  var statistics: Statistics
  if ImatrixFile.isImatrix(path) {
    statistics = try Statistics(try ImatrixFile(path: path), for: family)
  } else {
    statistics = try statisticsFile(path)
  }
  try statistics.check(
    modelType: family.modelType, experts: family.dimensions.experts, weights: family.weights)
  statistics.fileHash = SHA256.hex(try MappedFile(path: path).bytes)
  return statistics
}

/// A statistics file of our own, of means or of sums.
/// - Throws: `STAT_FORMAT`.
func statisticsFile(_ path: String, _ form: StatisticsForm = .means) throws -> Statistics {
  let file = try SafetensorsFile(path: path)
  return try Statistics(
    tensors: file.tensors.map {
      StatisticsTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
    }, metadata: file.metadata.map { ($0.0, $0.1) }, file: path, form: form)
}
