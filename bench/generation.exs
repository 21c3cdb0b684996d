# Emily.Generation beside a loop that calls its compiled step and waits for it, as one line of JSON.
#
#     MIX_ENV=test mix run bench/generation.exs [ROUNDS]
#
# `step_us` is the least time of a step.

alias Emily.Test.DecodeLoop

rounds =
  case System.argv() do
    [] -> 20
    [rounds] -> String.to_integer(rounds)
  end

Nx.default_backend(Emily.Backend)
times = DecodeLoop.times(rounds, 32)
step = times |> Enum.map(& &1.raw) |> Enum.min()
IO.puts(JSON.encode!(%{step_us: step, ratio: DecodeLoop.ratio(times)}))
