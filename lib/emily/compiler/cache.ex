defmodule Emily.Compiler.Cache do
  @moduledoc false
  # The functions that `Nx.Defn.jit/2` was called with, so that a call in a loop compiles once.
  #
  # The table belongs to this process and outlives its users. Readers go to it directly. When it is
  # full the functions that were used longest ago make room.

  use GenServer

  @most 512

  # Terms in a function. A model of many layers has tens of thousands; but a function may also hold a
  # graph that refers to its parts so often that to copy it into the table would never end, and is
  # compiled each time.
  @largest 500_000

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  What is kept for `key`, or what `make` gives, which is kept from then on.

  The key is a tuple that begins with the function.
  """
  @spec fetch(tuple(), (-> value)) :: value when value: term()
  def fetch(key, make),
    do: if(small?(elem(key, 0), @largest), do: kept(key, make), else: make.())

  defp kept(key, make) do
    case :ets.lookup(__MODULE__, key) do
      [{_key, value, _used}] ->
        :ets.update_element(__MODULE__, key, {3, now()})
        value

      [] ->
        value = make.()
        :ets.insert(__MODULE__, {key, value, now()})
        if :ets.info(__MODULE__, :size) > @most, do: GenServer.cast(__MODULE__, :make_room)
        value
    end
  end

  @doc "Forgets everything."
  @spec clear() :: :ok
  def clear do
    :ets.delete_all_objects(__MODULE__)
    :ok
  end

  defp small?(term, most), do: left(term, most) > 0

  # What is left of so many terms after those in this one; it ends when nothing is.
  defp left(_term, left) when left <= 0, do: 0
  defp left([head | tail], left), do: left(tail, left(head, left - 1))
  defp left(map, left) when is_map(map), do: left(Map.to_list(map), left - 1)
  defp left(tuple, left) when is_tuple(tuple), do: left(Tuple.to_list(tuple), left - 1)

  defp left(fun, left) when is_function(fun) do
    {:env, environment} = :erlang.fun_info(fun, :env)
    left(environment, left - 1)
  end

  defp left(_other, left), do: left - 1

  defp now, do: System.monotonic_time()

  @impl true
  def init(nil) do
    options = [:named_table, :public, read_concurrency: true, write_concurrency: true]
    {:ok, :ets.new(__MODULE__, options)}
  end

  @impl true
  def handle_cast(:make_room, table) do
    used = table |> :ets.select([{{:_, :_, :"$1"}, [], [:"$1"]}]) |> Enum.sort()

    case Enum.drop(used, div(@most, 2)) do
      [oldest_kept | _newer] when length(used) > @most ->
        :ets.select_delete(table, [{{:_, :_, :"$1"}, [{:<, :"$1", oldest_kept}], [true]}])

      _few ->
        :ok
    end

    {:noreply, table}
  end
end
