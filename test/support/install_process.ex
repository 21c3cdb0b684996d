defmodule Emily.Test.InstallProcess do
  @moduledoc """
  An install in an operating-system process of its own, which can be told to kill itself.

  It prints its events, one a line. With `:kill_at` it sends itself SIGKILL, without a chance to
  clean up, at the event that is printed so, or, for a number, once that many bytes have arrived.
  """

  alias Emily.Artifact.{Install, Keyring}
  alias Emily.Settings
  alias Emily.Test.ReleaseFactory

  @doc "Runs an install to its end, and returns what it printed and its exit status."
  def run(context, options \\ []) do
    System.cmd(System.find_executable("elixir"), arguments(context, options),
      stderr_to_stdout: true
    )
  end

  @doc "Starts an install as a port, whose lines come as messages."
  def start(context, options \\ []) do
    Port.open({:spawn_executable, System.find_executable("elixir")}, [
      :binary,
      :exit_status,
      line: 4_096,
      args: arguments(context, options)
    ])
  end

  defp arguments(context, options) do
    keys = Path.join(context.dir, "keys.json")
    File.write!(keys, context.key.text)
    ebin = Path.join(Mix.Project.app_path(), "ebin")
    kill_at = to_string(options[:kill_at])
    priv = options[:priv] || context.priv
    code = "#{inspect(__MODULE__)}.main(System.argv())"
    ["-pa", ebin, "-e", code, keys, context.server.url, context.cache, priv, kill_at]
  end

  @doc false
  def main([keys, url, cache, priv, kill_at]) do
    {:ok, keyring} = Keyring.decode(File.read!(keys))

    result =
      Install.run(%Install{
        artifact: ReleaseFactory.artifact(),
        settings: Settings.load(%{"EMILY_CACHE" => cache}, release_url: url),
        priv: priv,
        keyring: keyring,
        host: fn -> ReleaseFactory.host() end,
        notify: fn event ->
          IO.puts(inspect(event))
          if kill?(event, kill_at), do: kill_self()
        end
      })

    case result do
      {:ok, _manifest} -> :ok
      {:error, error} -> raise error
    end
  end

  defp kill?(_event, ""), do: false

  defp kill?({:progress, done, _total}, kill_at) do
    match?({bytes, ""} when done >= bytes, Integer.parse(kill_at))
  end

  defp kill?(event, kill_at), do: inspect(event) == kill_at

  defp kill_self do
    System.cmd("kill", ["-9", System.pid()])
    Process.sleep(:infinity)
  end
end
