defmodule Emily.Test.Ticks do
  @moduledoc """
  How late a process is that wakes up each millisecond, on each scheduler at once.
  """

  @late 5

  @doc """
  Calls `fun`; returns what part of the ticks meanwhile came more than 5 ms late, and by how many
  milliseconds the latest one did.
  """
  @spec during((-> term())) :: %{late: float(), latest: float(), ticks: pos_integer()}
  def during(fun) do
    parent = self()

    tickers =
      for scheduler <- 1..:erlang.system_info(:schedulers_online) do
        :erlang.spawn_opt(fn -> tick(parent, now(), []) end, [:link, {:scheduler, scheduler}])
      end

    fun.()
    for ticker <- tickers, do: send(ticker, :stop)
    delays = Enum.flat_map(tickers, fn ticker -> receive(do: ({^ticker, delays} -> delays)) end)
    late = Enum.count(delays, &(&1 > @late))
    %{late: late / length(delays), latest: Enum.max(delays), ticks: length(delays)}
  end

  # The next tick is due a millisecond after this one was.
  defp tick(parent, last, delays) do
    due = last + 1
    :erlang.start_timer(ceil(due), self(), :tick, abs: true)

    receive do
      {:timeout, _timer, :tick} ->
        delay = max(now() - ceil(due), 0.0)
        tick(parent, max(due, now() - 1), [delay | delays])

      :stop ->
        send(parent, {self(), [0.0 | delays]})
    end
  end

  # Milliseconds, with their parts.
  defp now, do: System.monotonic_time(:microsecond) / 1000
end
