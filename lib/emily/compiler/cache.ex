defmodule Emily.Compiler.Cache do
  @moduledoc false
  # The functions that `Nx.Defn.jit/2` was called with, so that a call in a loop compiles once.
  #
  # The table belongs to this process and outlives its users. Readers go to it directly. When it is
  # full the functions that were used longest ago make room.

  use GenServer

  @most 512

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What is kept for `key`, or what `make` gives, which is kept from then on."
  @spec fetch(term(), (-> value)) :: value when value: term()
  def fetch(key, make) do
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
