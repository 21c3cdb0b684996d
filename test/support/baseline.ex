defmodule Emily.Test.Baseline do
  @moduledoc """
  What MLX, the VM and the system hold for this VM, and whether it is what they held before.

  Work is held against its own first rounds: code is loaded, pools are filled, and caches are warm by
  then, and whatever still grows is a leak.
  """

  import ExUnit.Assertions

  @megabyte 1_048_576

  # What each may grow by. The VM's own allocations move a little with what ExUnit does meanwhile, and
  # the system's view of memory with what malloc keeps; a leak of some hundred bytes a round is more.
  @tolerances %{
    mlx_active: 0,
    mlx_cache: 0,
    processes: 0,
    messages: 0,
    ports: 0,
    atoms: 0,
    tables: 0,
    persistent_terms: 0,
    threads: 64,
    vm_processes: 2 * @megabyte,
    vm_binary: @megabyte,
    vm_ets: @megabyte,
    vm_total: 4 * @megabyte,
    resident: 24 * @megabyte
  }

  @doc """
  Calls `round` with each number up to `rounds`, after a tenth of that to warm up, and fails unless
  everything is then what it was.
  """
  @spec returns(pos_integer(), (pos_integer() -> term())) :: :ok
  def returns(rounds, round) do
    run(max(div(rounds, 10), 50), round)
    before = settled(nil)
    run(rounds, round)
    later = settled(before)
    assert grown(before, later) == []
  end

  # In a process of its own, whose garbage is gone when it ends.
  defp run(rounds, round) do
    Task.async(fn -> Enum.each(1..rounds, round) end) |> Task.await(:infinity)
  end

  @doc "What is held now, when nothing is to be collected any more."
  @spec now() :: %{atom() => non_neg_integer()}
  def now do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    Emily.Memory.clear_cache()
    mlx = Emily.Memory.stats()
    vm = :erlang.memory()

    Map.merge(system(), %{
      mlx_active: mlx.active,
      mlx_cache: mlx.cache,
      processes: :erlang.system_info(:process_count),
      messages: Enum.sum(for pid <- Process.list(), do: messages(pid)),
      ports: :erlang.system_info(:port_count),
      atoms: :erlang.system_info(:atom_count),
      tables: :erlang.system_info(:ets_count),
      persistent_terms: :persistent_term.info().count,
      vm_processes: vm[:processes],
      vm_binary: vm[:binary],
      vm_ets: vm[:ets],
      vm_total: vm[:total]
    })
  end

  defp messages(pid) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, count} -> count
      nil -> 0
    end
  end

  # What the system says of this VM: only Linux says it in a file.
  defp system do
    case File.read("/proc/self/status") do
      {:ok, text} ->
        [_, threads] = Regex.run(~r/^Threads:\s+(\d+)/m, text)
        [_, kilobytes] = Regex.run(~r/^VmRSS:\s+(\d+) kB/m, text)
        %{threads: String.to_integer(threads), resident: String.to_integer(kilobytes) * 1024}

      {:error, :enoent} ->
        {kilobytes, 0} = System.cmd("ps", ["-o", "rss=", "-p", System.pid()])
        %{threads: 0, resident: String.to_integer(String.trim(kilobytes)) * 1024}
    end
  end

  # Other processes' tensors are freed when they are gone, and threads answer when they can: what is
  # held is asked for until it is no more than before, or no longer becomes less.
  defp settled(before, last \\ nil, attempts \\ 100) do
    later = now()

    cond do
      before && grown(before, later) == [] -> later
      !before && last && grown(last, later) == [] && grown(later, last) == [] -> later
      attempts == 0 -> later
      true -> receive(do: (:never -> :ok), after: (20 -> settled(before, later, attempts - 1)))
    end
  end

  defp grown(before, later) do
    for {name, tolerance} <- @tolerances, later[name] > before[name] + tolerance do
      {name, before[name], later[name]}
    end
  end
end
