defmodule Emily.Application do
  @moduledoc false

  use Application

  # mix.exs names the observer, since not every build has one.
  @impl true
  def start(_type, options) do
    Emily.Native.ensure_loaded()
    Emily.Native.Observer.set(options[:observer])

    Supervisor.start_link([Emily.Native.DefaultStream | options[:children] || []],
      strategy: :one_for_one,
      name: Emily.Supervisor
    )
  end
end
