-- Sends the requests of a file, each ended by a NUL, and prints what came of them as JSON.
local requests, at = {}, 0

function init(arguments)
  for request in io.open(arguments[1], "rb"):read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = request
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors, latencies = summary.errors, {}
  for position = 1, #latency do
    local microseconds, times = latency(position)
    latencies[position] = string.format("[%d, %d]", microseconds, times)
  end
  print(string.format(
    '{"answers": %d, "microseconds": %d, "failures": %d, "latencies": [%s]}', summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout, table.concat(latencies, ", ")))
end
