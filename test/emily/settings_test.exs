defmodule Emily.SettingsTest do
  use ExUnit.Case, async: true
  doctest Emily.Settings

  alias Emily.Settings

  test "are empty where nothing is set" do
    assert Settings.load(%{}, []) == %Settings{environment: %{}}
  end

  @variables [
    {"EMILY_CACHE", :cache, "/c", "/c"},
    {"EMILY_VARIANT", :variant, "cpu", "cpu"},
    {"EMILY_RELEASE_URL", :release_url, "https://m/", "https://m/"},
    {"EMILY_CXX", :cxx, "clang++", "clang++"},
    {"EMILY_OFFLINE", :offline, "1", true},
    {"EMILY_OFFLINE", :offline, "true", true},
    {"HTTPS_PROXY", :https_proxy, "p:1", "p:1"},
    {"https_proxy", :https_proxy, "p:1", "p:1"},
    {"HEX_CACERTS_PATH", :cacerts_path, "/ca.pem", "/ca.pem"},
    {"NO_PROXY", :no_proxy, "a.example, .b.example,", ["a.example", ".b.example"]},
    {"no_proxy", :no_proxy, "a.example", ["a.example"]}
  ]

  for {variable, field, value, expected} <- @variables do
    test "read #{variable} as #{value}, and take an empty one for an absent one" do
      environment = %{unquote(variable) => unquote(value)}
      assert Map.fetch!(Settings.load(environment, []), unquote(field)) == unquote(expected)

      empty = Map.fetch!(Settings.load(%{unquote(variable) => ""}, []), unquote(field))
      assert empty == Map.fetch!(Settings.load(%{}, []), unquote(field))
    end
  end

  test "take the variable before the configuration" do
    config = [variant: :cuda13, release_url: "https://configured/"]
    assert %{variant: "cuda13", release_url: "https://configured/"} = Settings.load(%{}, config)

    environment = %{"EMILY_VARIANT" => "cpu", "EMILY_RELEASE_URL" => "https://variable/"}

    assert %{variant: "cpu", release_url: "https://variable/"} =
             Settings.load(environment, config)
  end

  test "say whether a network may be asked, by the variable before the configuration" do
    assert Settings.load(%{}, offline: true).offline
    refute Settings.load(%{"EMILY_OFFLINE" => "0"}, offline: true).offline
    refute Settings.load(%{"EMILY_OFFLINE" => "false"}, []).offline

    assert_raise ArgumentError,
                 ~s(expected EMILY_OFFLINE to be 1, true, 0 or false, got: "no"),
                 fn -> Settings.load(%{"EMILY_OFFLINE" => "no"}, []) end
  end

  test "say what to do when an operation leaves the device" do
    for {config, expected} <- [
          {[], :warn},
          {[fallback: :raise], :raise},
          {[fallback: :silent], :silent},
          {[warn_on_fallback: false], :silent},
          {[warn_on_fallback: true], :warn},
          {[warn_on_fallback: false, fallback: :raise], :raise}
        ] do
      assert Settings.load(%{}, config).fallback == expected
    end
  end

  test "refuse a configured value of the wrong type" do
    for {config, message} <- [
          {[fallback: true], "fallback: to be :silent, :warn or :raise, got: true"},
          {[warn_on_fallback: 1], "warn_on_fallback: to be true or false, got: 1"},
          {[add_backend_on_inspect: nil], "add_backend_on_inspect: to be true or false, got: nil"}
        ] do
      assert_raise ArgumentError, "expected config :emily, " <> message, fn ->
        Settings.load(%{}, config)
      end
    end

    assert_raise ArgumentError,
                 "expected config :emily, variant: to be an atom or a string, got: 12",
                 fn -> Settings.load(%{}, variant: 12) end

    assert_raise ArgumentError,
                 "expected config :emily, release_url: to be a string, got: ~c\"x\"",
                 fn -> Settings.load(%{}, release_url: ~c"x") end
  end

  test "are all in the module's table" do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Settings)
    source = File.read!("lib/emily/settings.ex")

    names =
      Regex.scan(~r/variable\(environment, \[?((?:"\w+"(?:, )?)+)/, source)
      |> Enum.flat_map(fn [_, list] -> Regex.scan(~r/\w+/, list) end)
      |> List.flatten()

    assert "EMILY_CACHE" in names

    for name <- names,
        String.upcase(name) == name,
        do: assert(doc =~ "`#{name}`", "#{name} is not documented")
  end
end
